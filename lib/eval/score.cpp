#include "eval/score.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "eval/bootstrap.h"
#include "quant/methods.h"

namespace blockgtq {
namespace {

/// Whether a method of whole bits is at a fractional budget.
bool between(const EvalSpec& spec, size_t budget, size_t method) {
  const double bits = spec.budgets[budget].average_bits;
  const Method* found = find_method(key_methods(), spec.methods[method]);
  check(found != nullptr, "score: unknown method");
  return found->whole_bits && bits != std::floor(bits);
}

double geometric(double low, double high, double weight) {
  return std::exp((1 - weight) * std::log(low) + weight * std::log(high));
}

/// Interpolates a method of whole bits geometrically between floor(bits) and ceil(bits): errors, or 1 minus
/// the share where a metric is a share kept.
HeadScore interpolate(const EvalSpec& spec, const HeadScore& low, const HeadScore& high, double weight) {
  HeadScore score{geometric(low.mae, high.mae, weight), (1 - weight) * low.bytes + weight * high.bytes,
                  low.metrics};
  for (size_t m = 0; m < score.metrics.size(); ++m)
    for (size_t c = 0; c < score.metrics[m].size(); ++c) {
      const ChunkSum &a = low.metrics[m][c], &b = high.metrics[m][c];
      score.metrics[m][c].sum = is_share_kept(spec.metrics[m])
                                    ? a.count - geometric(a.count - a.sum, b.count - b.sum, weight)
                                    : geometric(a.sum, b.sum, weight);
    }
  return score;
}

/// Exit::nonfinite: products of finite queries and keys may overflow float32.
void require_finite(const HeadScore& score, const EvalSpec& spec, const MethodResult& row, int layer,
                    int kv_head) {
  const auto require = [&](const char* metric, double value) {
    if (std::isfinite(value)) return;
    throw Error(Exit::nonfinite,
                fmt::format("layer {}: KV head {}: {} of {} at {:g} bits: {} found, finite numbers allowed",
                            layer, kv_head, metric, row.method, row.bits, value),
                "queries and keys are finite: their products overflow float32");
  };
  require("logit error", score.mae);
  for (size_t i = 0; i < score.metrics.size(); ++i)
    for (const ChunkSum& chunk : score.metrics[i]) require(name(spec.metrics[i]), chunk.sum);
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

MetricValue metric_value(Metric metric, const std::vector<std::vector<ChunkSum>>& parts) {
  MetricValue value{metric, 0, 0, 0, parts.at(0)};
  for (size_t i = 1; i < parts.size(); ++i)
    for (size_t c = 0; c < value.chunks.size(); ++c) {
      value.chunks[c].sum += parts[i].at(c).sum;
      value.chunks[c].count += parts[i][c].count;
    }
  value.value = mean(value.chunks);
  const Bootstrap::Interval interval = Bootstrap(value.chunks.size()).mean(value.chunks);
  value.low = interval.low;
  value.high = interval.high;
  return value;
}

LayerResult assemble(const EvalSpec& spec, int layer, const std::vector<HeadScore>& scores) {
  const size_t n_heads = spec.shape.n_kv_heads;
  LayerResult result{layer, {}};
  size_t next = 0;  // index of the row's first score
  for (size_t b = 0; b < spec.budgets.size(); ++b)
    for (size_t m = 0; m < spec.methods.size(); ++m) {
      MethodResult row;
      row.method = spec.methods[m];
      row.bits = spec.budgets[b].average_bits;
      row.interpolated = between(spec, b, m);
      std::vector<std::vector<std::vector<ChunkSum>>> parts(spec.metrics.size());  // (metrics, heads, chunks)
      for (size_t h = 0; h < n_heads; ++h) {
        HeadScore s = scores.at(next + h);
        if (row.interpolated)
          s = interpolate(spec, s, scores.at(next + n_heads + h), row.bits - std::floor(row.bits));
        require_finite(s, spec, row, layer, int(h));
        row.mae_per_kv_head.push_back(s.mae);
        row.mae += s.mae / double(n_heads);
        row.bytes_per_token += s.bytes;
        for (size_t i = 0; i < parts.size(); ++i) parts[i].push_back(std::move(s.metrics[i]));
      }
      for (size_t i = next; i < next + (row.interpolated ? 2 * n_heads : n_heads); ++i)
        row.clipped += scores[i].clipped;
      for (size_t i = 0; i < parts.size(); ++i) {
        row.metrics.push_back(metric_value(spec.metrics[i], parts[i]));
        if (spec.metrics[i] == Metric::mae) row.metrics.back().value = row.mae;
      }
      row.effective_bits = 8 * row.bytes_per_token / (double(n_heads) * spec.shape.layout.head_dim);
      next += row.interpolated ? 2 * n_heads : n_heads;
      result.results.push_back(std::move(row));
    }
  check(next == scores.size(), "assemble: scores of another number");
  return result;
}

}  // namespace blockgtq
