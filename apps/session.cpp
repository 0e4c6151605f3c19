#include "session.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "base/sha256.h"
#include "base/stop.h"
#include "device.h"
#include "eval/cuda_stats.h"
#include "hf/tokenizer.h"
#include "model/model_shape.h"
#include "model/output_moment.h"

namespace blockgtq {
namespace {

/// "I/N" -> chunks [first, last) of n_chunks.
std::pair<int64_t, int64_t> part_range(const std::string& part, int64_t n_chunks) {
  if (part.empty()) return {0, n_chunks};
  long long i = 0, n = 0;
  char rest = 0;
  if (std::sscanf(part.c_str(), "%lld/%lld%c", &i, &n, &rest) != 2 || i < 1 || n < i)
    throw Error(Exit::usage, fmt::format("--part: '{}' is not I/N with 1 <= I <= N", part));
  if (n > n_chunks)
    throw Error(Exit::usage,
                fmt::format("--part: {} parts of {} chunks: at most one part per chunk", n, n_chunks));
  return {(i - 1) * n_chunks / n, i * n_chunks / n};
}

}  // namespace

Session open_session(const RunOptions& run, const GlobalOptions& global, Progress& progress) {
  Session session;
  const fs::path folder = resolve_model(run.model);
  session.model = std::make_unique<Checkpoint>(folder);
  const Config& config = session.model->config();
  check_weights(*session.model);
  DeviceChoice choice = choose_device(run, config, global);
  session.backend = std::move(choice.backend);
  session.device = choice.device;

  Corpus corpus = read_corpus(run.corpus(), folder, config.vocab);
  const int64_t n_tokens = int64_t(corpus.ids.size());
  session.chunk = run.chunk == 0 ? n_tokens : std::min(run.chunk, n_tokens);
  const int64_t n_chunks = (n_tokens + session.chunk - 1) / session.chunk;
  const auto [first, last] = part_range(run.part, n_chunks);
  session.first_chunk = first;
  corpus.ids = {corpus.ids.begin() + first * session.chunk,
                corpus.ids.begin() + std::min(last * session.chunk, n_tokens)};
  session.corpus = std::move(corpus);
  session.shape = attention_shape(config, session.chunk, run.reference());

  const std::string weights = session.model->fingerprint();
  const std::string compat = run.compat.empty() ? "none" : run.compat;
  const std::string config_sha = sha256_hex(read_text(folder / "config.json", kMaxConfigBytes));
  const std::string tokenizer =
      run.files.empty() ? "none" : sha256_hex(read_text(folder / "tokenizer.json", kMaxTokenizerBytes));
  session.signature = sha256_hex(fmt::format(
      "config {}\nweights {}\ntokenizer {}\ncorpus {}\nbos {}\nchunk {}\ndtype {}\ncompat {}\n", config_sha,
      weights, tokenizer, session.corpus.sha256, run.bos, session.chunk, choice.dtype, compat));
  session.provenance = {{"blockgtq", BLOCKGTQ_VERSION},
                        {"model", fs::absolute(folder).lexically_normal().filename().string()},
                        {"model_type", config.model_type},
                        {"weights", weights},
                        {"corpus", session.corpus.description},
                        {"corpus_sha256", session.corpus.sha256},
                        {"chunk", fmt::format("{}", session.chunk)},
                        {"bos", run.bos ? "yes" : "no"},
                        {"dtype", choice.dtype},
                        {"compat", compat}};
  global.note(fmt::format("{}: {} tokens in windows of {} from {}, {} on {} with {} threads, signature {}",
                          folder.string(), session.n_tokens(), session.chunk, session.corpus.description,
                          choice.dtype, choice.device, threads(), session.signature.substr(0, 16)));
  if (config.rope.type == RopeType::dynamic && session.chunk > config.max_position)
    progress.warn("dynamic RoPE: frequencies are those of a window of one chunk");
  return session;
}

std::vector<std::vector<double>> output_moments(const Session& session) {
  std::vector<std::vector<double>> moments;
  if (session.shape.v_dim == 0) return moments;
  for (const int l : session.model->config().kv_layers())
    moments.push_back(output_moment(layer_weights(*session.model, l).o, session.shape));
  return moments;
}

Stats collect_stats(Session& session, Progress& progress) {
  Stats stats;
  stats.shape = session.shape;
  stats.first_chunk = session.first_chunk;
  stats.signature = session.signature;
  stats.provenance = session.provenance;
  stats.layers.resize(session.shape.n_layers);
  std::vector<std::vector<double>> moments = output_moments(session);
  for (size_t l = 0; l < moments.size(); ++l) stats.layers[l].output = std::move(moments[l]);
  for (int64_t t = 0; t < session.n_tokens(); t += session.chunk)
    stats.chunk_tokens.push_back(std::min(session.chunk, session.n_tokens() - t));

  const AttentionShape& shape = session.shape;
  const int64_t dim = shape.layout.head_dim;
  std::optional<CudaStats> on_device;
  if (session.device == "cuda") on_device.emplace(stats);
  ForwardRequest request;
  request.tokens = session.corpus.ids;
  request.chunk = session.chunk;
  request.progress = &progress;
  request.on_layer = [&](LayerActivations& acts) {
    check_stop();
    if (acts.stream) return on_device->add_layer(acts.layer, acts.q, acts.k, acts.v, acts.stream);
    for (int64_t c = 0; c < stats.n_chunks(); ++c) {
      const int64_t first = c * session.chunk;
      accumulate(stats, acts.layer, session.first_chunk + c, stats.chunk_tokens[c],
                 acts.q + first * shape.n_heads * dim, acts.k + first * shape.n_kv_heads * dim,
                 acts.v ? acts.v + first * shape.n_kv_heads * shape.v_dim : nullptr);
    }
  };
  session.backend->forward(*session.model, request);
  if (on_device) on_device->finish();
  return stats;
}

}  // namespace blockgtq
