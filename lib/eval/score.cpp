#include "eval/score.h"

#include <cmath>

#include "base/error.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

/// Whether a method of whole bits stands between two of them.
bool between(const EvalSpec& spec, size_t budget, size_t method) {
  const double bits = spec.budgets[budget].average_bits;
  const Method* found = find_method(key_methods(), spec.methods[method]);
  check(found != nullptr, "score: unknown method");
  return found->whole_bits && bits != std::floor(bits);
}

/// Geometric interpolation of a whole-bit method between floor(bits) and ceil(bits).
HeadScore interpolate(const HeadScore& low, const HeadScore& high, double weight) {
  return {std::exp((1 - weight) * std::log(low.mae) + weight * std::log(high.mae)),
          (1 - weight) * low.code_bytes + weight * high.code_bytes};
}

}  // namespace

std::vector<ScoreJob> score_jobs(const EvalSpec& spec) {
  std::vector<ScoreJob> jobs;
  for (size_t b = 0; b < spec.budgets.size(); ++b)
    for (size_t m = 0; m < spec.methods.size(); ++m) {
      const double bits = spec.budgets[b].average_bits;
      const std::vector<double> variants = between(spec, b, m)
                                               ? std::vector<double>{std::floor(bits), std::floor(bits) + 1}
                                               : std::vector{bits};
      for (const double variant : variants)
        for (int h = 0; h < spec.shape.n_kv_heads; ++h) jobs.push_back({b, m, variant, h});
    }
  return jobs;
}

std::unique_ptr<Quantizer> job_quantizer(const EvalSpec& spec, const ScoreJob& job, int layer) {
  HeadMap head =
      head_map(spec.shape, spec.budgets[job.budget], spec.calibration, spec.seed, layer, job.kv_head);
  head.average_bits = job.bits;
  return make_key_quantizer(spec.methods[job.method], head, spec.codebook);
}

LayerResult assemble(const EvalSpec& spec, int layer, const std::vector<HeadScore>& scores) {
  const size_t n_heads = spec.shape.n_kv_heads;
  LayerResult result{layer, {}};
  size_t next = 0;  // the first score of the row
  for (size_t b = 0; b < spec.budgets.size(); ++b)
    for (size_t m = 0; m < spec.methods.size(); ++m) {
      MethodResult row;
      row.method = spec.methods[m];
      row.bits = spec.budgets[b].average_bits;
      row.interpolated = between(spec, b, m);
      for (size_t h = 0; h < n_heads; ++h) {
        HeadScore s = scores.at(next + h);
        if (row.interpolated)
          s = interpolate(s, scores.at(next + n_heads + h), row.bits - std::floor(row.bits));
        row.mae_per_kv_head.push_back(s.mae);
        row.mae += s.mae / double(n_heads);
        row.bytes_per_token += s.code_bytes;
      }
      row.effective_bits = 8 * row.bytes_per_token / (double(n_heads) * spec.shape.layout.head_dim);
      next += row.interpolated ? 2 * n_heads : n_heads;
      result.results.push_back(std::move(row));
    }
  check(next == scores.size(), "assemble: scores of another number");
  return result;
}

}  // namespace blockgtq
