#include "eval/cuda_evaluate.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/cuda_codes.h"
#include "eval/logit_error.h"
#include "eval/score.h"
#include "kernels/diagnose.h"

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

}  // namespace

struct CudaEvaluator::State {
  explicit State(const EvalSpec& s);

  EvalSpec spec;
  std::vector<ScoreJob> jobs;
  cuda::Stream own;  // uploads, before any layer
  cuda::CodeTables tables;
  cuda::LogitTable metric;
  cuda::Buffer sums;                  // (L, jobs) in the order of `seen`
  std::vector<cuda::Buffer> scratch;  // the last one is in use; a layer of more tokens adds a longer one
  cuda::PinnedBuffer host_sums;
  cuda::Event done;
  std::vector<Seen> seen;
};

CudaEvaluator::State::State(const EvalSpec& s)
    : spec(s),
      jobs(score_jobs(spec)),
      tables(make_tables(spec, jobs, own)),
      metric(spec.shape.metric_layout(),
             LogitError(spec.shape.metric_layout(), spec.inv_freq, spec.window, spec.offsets).table(),
             spec.offsets, own),
      sums(jobs.size() * spec.shape.n_layers * sizeof(double)),
      host_sums(sums.bytes()) {}

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
  const int n_jobs = int(s.jobs.size());
  check(layer >= 0 && layer < s.spec.shape.n_layers && s.seen.size() < size_t(s.spec.shape.n_layers),
        "CudaEvaluator: no such layer, or too many");
  const cuda::Stream stream(handle);
  cuda::LogitJobs jobs;
  jobs.tables = &s.tables;
  jobs.first = layer * n_jobs;
  jobs.n_jobs = n_jobs;
  jobs.n_heads = s.spec.shape.n_heads;
  jobs.n_kv_heads = s.spec.shape.n_kv_heads;
  jobs.q = q;
  jobs.k = k;
  jobs.n_tokens = n_tokens;
  const size_t needed = cuda::logit_scratch(jobs) * sizeof(double);
  if (s.scratch.empty() || s.scratch.back().bytes() < needed) s.scratch.emplace_back(needed);
  const size_t first = s.seen.size() * n_jobs;
  cuda::logit_error(jobs, s.metric, s.sums.as<double>() + first, s.scratch.back().as<double>(), stream);
  cuda::download(s.host_sums.as<double>() + first, s.sums.as<double>() + first, n_jobs * sizeof(double),
                 stream);
  s.done.record(stream);
  s.seen.push_back({layer, n_tokens});
}

std::vector<LayerResult> CudaEvaluator::finish() {
  State& s = *state_;
  if (s.seen.empty()) return {};
  s.done.synchronize();
  std::vector<LayerResult> results;
  const double* sum = s.host_sums.as<double>();
  for (const Seen& layer : s.seen) {
    std::vector<HeadScore> scores;
    for (size_t j = 0; j < s.jobs.size(); ++j, ++sum) {
      check(std::isfinite(*sum), "CudaEvaluator: keys or queries that are not finite");
      const double terms = double(layer.n_tokens) * s.spec.shape.group() * s.spec.offsets;
      const int table = layer.layer * int(s.jobs.size()) + int(j);
      scores.push_back(
          {*sum / terms, double(s.tables.bytes_before(table + 1) - s.tables.bytes_before(table))});
    }
    results.push_back(assemble(s.spec, layer.layer, scores));
  }
  return results;
}

}  // namespace blockgtq
