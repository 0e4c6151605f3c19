#include "session.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <future>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "decimal.h"
#include "device.h"
#include "eval/cuda_stats.h"
#include "hf/model_files.h"
#include "model/cuda_output_moment.h"
#include "model/model_shape.h"
#include "model/nonfinite.h"
#include "model/output_moment.h"
#include "quant/calibrate.h"
#include "stats_resume.h"

namespace blockgtq {
namespace {

/// The chunks of "I/N" of n_chunks; the session notes what they are a part of.
ChunkRange take_part(const std::string& part, int64_t n_chunks, Session& session) {
  session.run_chunks = n_chunks;
  if (part.empty()) return {0, n_chunks};
  const std::vector<std::string> numbers = split(part, '/');
  const int64_t i = parse_whole(numbers[0]).value_or(0), n = parse_whole(numbers.back()).value_or(0);
  if (numbers.size() != 2 || i < 1 || n < i)
    throw Error(Exit::usage, fmt::format("--part: '{}' is not I/N with 1 <= I <= N", part));
  if (n > n_chunks)
    throw Error(Exit::usage,
                fmt::format("--part: {} parts of {} chunks: at most one part per chunk", n, n_chunks));
  session.n_parts = n;
  return part_chunks(i, n, n_chunks);
}

}  // namespace

std::string beyond_positions(const Checkpoint& model, int64_t tokens) {
  const Config& config = model.config();
  if (tokens <= config.max_position) return "";
  return fmt::format("{}: windows of more than {} tokens reach beyond the model's max_position_embeddings{}",
                     model.folder().string(), config.max_position,
                     config.rope.type == RopeType::dynamic
                         ? "; dynamic RoPE: the frequencies are those of a whole window"
                         : "");
}

Session open_session(const RunOptions& run, const GlobalOptions& global, Progress& progress) {
  Session session;
  const fs::path folder = resolve_model(run.model);
  session.model = std::make_unique<Checkpoint>(folder);
  const Config& config = session.model->config();
  for (const std::string& remark : check_weights(*session.model)) progress.warn(remark);
  session.model->begin_fingerprint();
  DeviceChoice choice = choose_device(run, config, global);
  session.backend = std::move(choice.backend);
  session.device = choice.device;

  Corpus corpus = read_corpus(run.corpus(), folder, config.vocab);
  for (const std::string& warning : corpus.warnings) progress.warn(warning);
  const int64_t n_ids = int64_t(corpus.ids.size());
  session.chunk = run.chunk == 0 ? n_ids : std::min(run.chunk, n_ids);
  session.from = run.calibrate_from;
  const int64_t n_tokens = tokens_from(session.from, n_ids, session.chunk);
  const int64_t n_chunks = (n_tokens + session.chunk - 1) / session.chunk;
  const auto [first, last] = take_part(run.part, n_chunks, session);
  session.first_chunk = first;
  corpus.ids = {corpus.ids.begin() + first * session.chunk,
                corpus.ids.begin() + std::min(last * session.chunk, n_tokens)};
  session.corpus = std::move(corpus);
  session.shape = attention_shape(config, session.chunk, run.reference());

  const std::string compat = run.compat.empty() ? "none" : run.compat;
  const std::string config_sha = sha256_hex(config_text(folder));
  session.facts = fmt::format("config {}\ntokenizer {}\ncorpus {}\nbos {}\nchunk {}\ndtype {}\ncompat {}\n",
                              config_sha, session.corpus.tokenizer, session.corpus.sha256,
                              run.bos ? "every window" : "false", session.chunk, choice.dtype, compat);
  session.origin = {{"blockgtq", BLOCKGTQ_VERSION},
                    {"model", fs::absolute(folder).lexically_normal().filename().string()},
                    {"model_type", config.model_type},
                    {"corpus", session.corpus.description},
                    {"corpus_sha256", session.corpus.sha256},
                    {"tokens", fmt::format("{}", n_ids)},
                    {"chunk", fmt::format("{}", session.chunk)},
                    {"bos", run.bos ? "yes" : "no"},
                    {"dtype", choice.dtype},
                    {"compat", compat}};
  global.note(fmt::format("{}: {} tokens in windows of {} from {}, {} on {} with {} threads", folder.string(),
                          session.n_tokens(), session.chunk, session.corpus.description, choice.dtype,
                          choice.device, threads()));
  if (const std::string text = beyond_positions(*session.model, session.chunk); !text.empty())
    progress.warn(text);
  return session;
}

std::string Session::signature() const {
  return signature_from(from, sha256_hex(fmt::format("{}weights {}\n", facts, model->fingerprint())));
}

Provenance Session::provenance() const {
  Provenance all = origin;
  all.insert(all.begin() + 3, {"weights", model->fingerprint()});  // behind the model's name and type
  return provenance_from(from, std::move(all));
}

int64_t tokens_from(int64_t from, int64_t n_tokens, int64_t chunk) {
  if (from >= chunk)
    throw Error(Exit::usage, fmt::format("--calibrate-from: {}, in windows of {} tokens at most {}", from,
                                         chunk, chunk - 1));
  const int64_t last = n_tokens % chunk;
  return last <= from ? n_tokens - last : n_tokens;
}

std::string signature_from(int64_t from, const std::string& signature) {
  return from == 0 ? signature : sha256_hex(fmt::format("{}\ncalibrate_from {}\n", signature, from));
}

Provenance provenance_from(int64_t from, Provenance provenance) {
  if (from > 0) provenance.emplace_back("calibrate_from", fmt::format("{}", from));
  return provenance;
}

namespace {

Linear output_weight(const Session& session, int layer) {
  return layer_weights(*session.model, session.model->config().kv_layers().at(size_t(layer))).o;
}

/// As output_moment(session, layer), on a device where there is one for it.
std::vector<double> finite_moment(const Session& session, int layer, CudaOutputMoment* device) {
  if (session.shape.v_dim == 0) return {};
  const Linear o = output_weight(session, layer);
  std::vector<double> moment = device ? device->moment(o) : output_moment(o, session.shape);
  // Squares of floats do not overflow float64: a sum is finite where all weights are.
  if (!std::all_of(moment.begin(), moment.end(), [](double x) { return std::isfinite(x); }))
    require_finite(*session.model, o.weight);
  return moment;
}

}  // namespace

std::vector<double> output_moment(const Session& session, int layer) {
  return finite_moment(session, layer, nullptr);
}

namespace {

/// Shown every layer once, some in a row at a time: those of [first, end) are whole.
using OnLayers = std::function<void(const Stats&, int first, int end)>;

/// What every layer's statistics get beside the sums, and who is shown them, on a thread of its own where the
/// device has the forward pass, and else when it is waited for.
class LayersBehind {
 public:
  LayersBehind(const Session& session, Stats& stats, const OnLayers& on_layers)
      : session_(session), stats_(stats), on_layers_(on_layers), added_(stats.layers.size()) {
    for (std::promise<void>& promise : added_) sums_.push_back(promise.get_future());
    if (session.device == "cuda" && CudaOutputMoment::supported(session.shape)) {
      const int64_t rows = output_weight(session, 0).rows();
      if (CudaOutputMoment::bytes(rows, session.shape) <= session.backend->device_room())
        moments_.emplace(rows, session.shape);
    }
    worker_ =
        std::async(session.device == "cuda" ? std::launch::async : std::launch::deferred, [this] { run(); });
  }
  LayersBehind(const LayersBehind&) = delete;
  ~LayersBehind() { added_.clear(); }  // who waits for a layer that does not come is told

  /// The sums of a layer are whole.
  void add(int layer) { added_.at(size_t(layer)).set_value(); }
  /// Of all layers.
  void wait() { worker_.get(); }

 private:
  static constexpr int kAtOnce = 4;  // layers whose heads are shown together

  /// The output weights of these layers will be read soon.
  void prefetch(int first, int end) const {
    for (int layer = first; layer < end && session_.shape.v_dim > 0; ++layer)
      session_.model->prefetch(output_weight(session_, layer).weight);
  }

  void run() {
    const auto n = int(sums_.size());
    prefetch(0, std::min(kAtOnce, n));
    for (int first = 0; first < n; first += kAtOnce) {
      const int end = std::min(first + kAtOnce, n);
      prefetch(end, std::min(end + kAtOnce, n));
      for (int layer = first; layer < end; ++layer)
        stats_.layers[size_t(layer)].output = finite_moment(session_, layer, moments_ ? &*moments_ : nullptr);
      for (int layer = first; layer < end; ++layer) sums_[size_t(layer)].get();
      if (on_layers_) on_layers_(stats_, first, end);
    }
  }

  const Session& session_;
  Stats& stats_;
  const OnLayers& on_layers_;
  std::optional<CudaOutputMoment> moments_;
  std::vector<std::promise<void>> added_;
  std::vector<std::future<void>> sums_;
  std::future<void> worker_;  // last: it ends before the rest goes
};

Stats collect_stats(Session& session, Progress& progress, ResumeFile* resume, const OnLayers& on_layers) {
  Stats stats;
  stats.shape = session.shape;
  stats.first_chunk = session.first_chunk;
  stats.run_chunks = session.run_chunks;
  stats.n_parts = session.n_parts;
  stats.layers.resize(session.shape.n_layers);
  const bool cuda = session.device == "cuda";
  for (int64_t t = 0; t < session.n_tokens(); t += session.chunk)
    stats.chunk_tokens.push_back(std::min(session.chunk, session.n_tokens() - t) - session.from);

  const AttentionShape& shape = session.shape;
  const int64_t dim = shape.layout.head_dim;
  const int n_layers = session.model->config().n_layers;
  const LayerBoundary start =
      resume ? load_stats(*resume, stats, size_t(session.n_tokens() * session.model->config().hidden))
             : LayerBoundary();
  LayersBehind behind(session, stats, on_layers);
  for (int layer = 0; layer < n_summed(stats); ++layer) behind.add(layer);
  std::optional<CudaStats> on_device;
  if (cuda) on_device.emplace(stats, session.from, [&](int layer) { behind.add(layer); });
  ForwardRequest request;
  request.tokens = session.corpus.ids;
  request.chunk = session.chunk;
  request.progress = &progress;
  if (start.layer > 0) request.start = &start;
  request.on_layer = [&](LayerActivations& acts) {
    if (acts.stream) return on_device->add_layer(acts.layer, acts.q, acts.k, acts.v, acts.stream);
    for (int64_t c = 0; c < stats.n_chunks(); ++c) {
      const int64_t first = c * session.chunk;
      accumulate(stats, acts.layer, session.first_chunk + c, stats.chunk_tokens[c] + session.from,
                 acts.q + first * shape.n_heads * dim, acts.k + first * shape.n_kv_heads * dim,
                 acts.v ? acts.v + first * shape.n_kv_heads * shape.v_dim : nullptr, session.from);
    }
    behind.add(acts.layer);
  };
  if (resume)
    request.on_boundary = [&](int layer, const std::function<std::span<const float>()>& residual) {
      if (!resume->due()) return;
      if (on_device) on_device->finish();
      save_stats(*resume, stats, layer, residual());
    };
  if (start.layer < n_layers) session.backend->forward(*session.model, request);
  if (on_device) on_device->finish();
  if (resume && resume->due()) save_stats(*resume, stats, n_layers, {});
  behind.wait();
  stats.signature = session.signature();
  stats.provenance = session.provenance();
  return stats;
}

}  // namespace

Stats collect_stats(Session& session, Progress& progress, ResumeFile* resume) {
  return collect_stats(session, progress, resume, {});
}

Calibration collect_calibration(Session& session, Progress& progress, int n_centres, ResumeFile* resume) {
  const int n_heads = session.shape.n_kv_heads;
  Calibration result;
  result.heads.resize(size_t(session.shape.n_layers) * size_t(n_heads));
  result.stats = collect_stats(session, progress, resume, [&](const Stats& stats, int first, int end) {
    parallel_for(size_t((end - first) * n_heads), [&](size_t i) {
      const int layer = first + int(i) / n_heads, head = int(i) % n_heads;
      result.heads[size_t(layer * n_heads + head)] = calibrate_head(stats, layer, head, n_centres);
    });
  });
  return result;
}

}  // namespace blockgtq
