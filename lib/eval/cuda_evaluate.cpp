#include "eval/cuda_evaluate.h"

#include <fmt/format.h>

#include <cmath>
#include <deque>
#include <optional>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/cuda_codes.h"
#include "eval/logit_error.h"
#include "eval/score.h"
#include "kernels/diagnose/diagnose.h"

namespace blockgtq {
namespace {

struct Seen {
  int layer;
  int64_t n_tokens;
};

/// The quantizers of all layers, (L, jobs).
cuda::CodeTables make_tables(const EvalSpec& spec, const std::vector<ScoreJob>& jobs,
                             const cuda::Stream& stream) {
  const size_t n = size_t(spec.shape.n_layers) * jobs.size();
  std::vector<std::unique_ptr<Quantizer>> quantizers(n);
  parallel_for(
      n, [&](size_t i) { quantizers[i] = job_quantizer(spec, jobs[i % jobs.size()], int(i / jobs.size())); });
  std::vector<cuda::CodeSpec> specs;
  for (const auto& quantizer : quantizers) specs.push_back(code_spec(*quantizer));
  return cuda::CodeTables(specs, stream);
}

/// For every method of the spec, whether it is made of TQ-MSE groups alone, which is all that the kernels
/// know.
std::vector<bool> on_device(const EvalSpec& spec) {
  std::vector<bool> known;
  for (const std::string& method : spec.methods) {
    EvalSpec one = spec;
    one.methods = {method};
    known.push_back(!job_quantizer(one, score_jobs(one).at(0), 0)->groups().empty());
  }
  return known;
}

/// The spec with only those methods whose `known` equals `wanted`.
EvalSpec select(EvalSpec spec, const std::vector<bool>& known, bool wanted) {
  std::vector<std::string> methods;
  for (size_t m = 0; m < known.size(); ++m)
    if (known[m] == wanted) methods.push_back(spec.methods[m]);
  spec.methods = std::move(methods);
  return spec;
}

/// The part on the device: tables of all layers' quantizers, and the memory for the sums.
struct OnDevice {
  explicit OnDevice(const EvalSpec& s)
      : spec(s),
        jobs(score_jobs(spec)),
        tables(make_tables(spec, jobs, own)),
        sums(jobs.size() * spec.shape.n_layers * sizeof(double)),
        clipped(jobs.size() * spec.shape.n_layers * sizeof(uint64_t)),
        host_sums(sums.bytes()),
        host_clipped(clipped.bytes()) {
    for (int layer = 0; layer < (spec.shape.rope_of_layer.empty() ? 1 : spec.shape.n_layers); ++layer)
      metrics.emplace_back(
          spec.shape.metric_layout(),
          LogitError(spec.shape.metric_layout(), spec.frequencies(layer), spec.window, spec.offsets).table(),
          spec.offsets, own);
  }
  void add(const Seen& layer, size_t index, const float* q, const float* k, const cuda::Stream& stream);
  LayerResult result(const Seen& layer, size_t index) const;

  EvalSpec spec;
  std::vector<ScoreJob> jobs;
  cuda::Stream own;  // for uploads before any layer
  cuda::CodeTables tables;
  std::deque<cuda::LogitTable> metrics;  // one for all layers, or one for each
  cuda::Buffer sums, clipped;            // (L, jobs) in the order in which layers are added
  std::vector<cuda::Buffer> scratch;     // the last one is in use; a layer with more tokens adds a larger one
  cuda::PinnedBuffer host_sums, host_clipped;
  cuda::Event done;
};

void OnDevice::add(const Seen& layer, size_t index, const float* q, const float* k,
                   const cuda::Stream& stream) {
  const int n_jobs = int(jobs.size());
  cuda::LogitJobs batch;
  batch.tables = &tables;
  batch.first = layer.layer * n_jobs;
  batch.n_jobs = n_jobs;
  batch.n_heads = spec.shape.n_heads;
  batch.n_kv_heads = spec.shape.n_kv_heads;
  batch.q = q;
  batch.k = k;
  batch.n_tokens = layer.n_tokens;
  const size_t needed = cuda::logit_scratch(batch) * sizeof(double);
  if (scratch.empty() || scratch.back().bytes() < needed) scratch.emplace_back(needed);
  const size_t first = index * n_jobs;
  const cuda::LogitTable& metric = metrics[metrics.size() == 1 ? 0 : size_t(layer.layer)];
  const cuda::LogitSums out{sums.as<double>() + first, clipped.as<uint64_t>() + first};
  cuda::logit_error(batch, metric, out, scratch.back().as<double>(), stream);
  cuda::download(host_sums.as<double>() + first, out.errors, n_jobs * sizeof(double), stream);
  cuda::download(host_clipped.as<uint64_t>() + first, out.clipped, n_jobs * sizeof(uint64_t), stream);
  done.record(stream);
}

LayerResult OnDevice::result(const Seen& layer, size_t index) const {
  const double* sum = host_sums.as<double>() + index * jobs.size();
  const uint64_t* cut = host_clipped.as<uint64_t>() + index * jobs.size();
  std::vector<HeadScore> scores;
  for (size_t j = 0; j < jobs.size(); ++j) {
    const double terms = double(layer.n_tokens) * spec.shape.group() * spec.offsets;
    const int table = layer.layer * int(jobs.size()) + int(j);
    const double code_bytes = double(tables.bytes_before(table + 1) - tables.bytes_before(table));
    scores.push_back({sum[j] / terms, code_bytes, {}, int64_t(cut[j])});
  }
  return assemble(spec, layer.layer, scores);
}

}  // namespace

struct CudaEvaluator::State {
  explicit State(const EvalSpec& s) : spec(s), known(on_device(s)), host_spec(select(s, known, false)) {
    if (host_spec.methods.size() < spec.methods.size()) device.emplace(select(s, known, true));
  }
  LayerResult join(const LayerResult& of_device, const LayerResult& of_host) const;

  EvalSpec spec;
  std::vector<bool> known;  // (methods) whether there are kernels
  EvalSpec host_spec;  // methods without kernels: they are scored on the CPU from a copy of the activations
  std::optional<OnDevice> device;
  std::vector<LayerResult> host_results;  // in the order of `seen`
  std::vector<Seen> seen;
};

/// Joins the rows of both parts in the order of the spec: budgets outside, methods inside.
LayerResult CudaEvaluator::State::join(const LayerResult& of_device, const LayerResult& of_host) const {
  LayerResult all{of_device.results.empty() ? of_host.layer : of_device.layer, {}};
  size_t next_device = 0, next_host = 0;
  for (size_t b = 0; b < spec.budgets.size(); ++b)
    for (const bool twin : known)
      all.results.push_back(twin ? of_device.results.at(next_device++) : of_host.results.at(next_host++));
  return all;
}

CudaEvaluator::CudaEvaluator(const EvalSpec& spec) {
  check(!spec.methods.empty() && !spec.budgets.empty(), "CudaEvaluator: nothing to evaluate");
  if (spec.shape.layout.head_dim > cuda::kMaxCodeDim)
    throw Error(Exit::device,
                fmt::format("the GPU evaluates heads of at most {}: {} found", cuda::kMaxCodeDim,
                            spec.shape.layout.head_dim),
                "--device cpu");
  state_ = std::make_unique<State>(spec);
}
CudaEvaluator::~CudaEvaluator() = default;

void CudaEvaluator::add_layer(int layer, const float* q, const float* k, int64_t n_tokens, void* handle) {
  State& s = *state_;
  check(layer >= 0 && layer < s.spec.shape.n_layers && s.seen.size() < size_t(s.spec.shape.n_layers),
        "CudaEvaluator: no such layer, or too many");
  const cuda::Stream stream(handle);
  const Seen now{layer, n_tokens};
  if (s.device) s.device->add(now, s.seen.size(), q, k, stream);
  if (!s.host_spec.methods.empty()) {
    const AttentionShape& shape = s.spec.shape;
    const size_t per_head = size_t(n_tokens) * shape.layout.head_dim;
    std::vector<float> host_q(per_head * shape.n_heads), host_k(per_head * shape.n_kv_heads);
    cuda::download(host_q.data(), q, host_q.size() * sizeof(float), stream);
    cuda::download(host_k.data(), k, host_k.size() * sizeof(float), stream);
    stream.synchronize();
    s.host_results.push_back(evaluate_layer(s.host_spec, layer, host_q.data(), host_k.data(), n_tokens));
  }
  s.seen.push_back(now);
}

std::vector<LayerResult> CudaEvaluator::finish() {
  State& s = *state_;
  if (s.seen.empty()) return {};
  if (s.device) s.device->done.synchronize();
  std::vector<LayerResult> results;
  for (size_t i = 0; i < s.seen.size(); ++i)
    results.push_back(s.join(s.device ? s.device->result(s.seen[i], i) : LayerResult{},
                             s.host_spec.methods.empty() ? LayerResult{} : s.host_results[i]));
  return results;
}

}  // namespace blockgtq
