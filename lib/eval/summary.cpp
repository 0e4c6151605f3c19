#include <algorithm>
#include <cmath>
#include <limits>

#include "eval/evaluate.h"
#include "eval/score.h"

namespace blockgtq {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr const char* kBaseline = "tq-mse";

struct Point {
  double bits, log_mae;
};

/// tq-mse's error at an effective size between (or beyond) its measured ones: log error is close to a
/// straight line in bits, so neighbours are joined, and the outermost lines go on. NaN from fewer than two
/// sizes.
double baseline_mae(const std::vector<Point>& points, double effective_bits) {
  if (points.size() < 2) return kNan;
  size_t i = 1;
  while (i + 1 < points.size() && points[i].bits < effective_bits) ++i;
  const Point &a = points[i - 1], &b = points[i];
  return std::exp(a.log_mae + (b.log_mae - a.log_mae) * (effective_bits - a.bits) / (b.bits - a.bits));
}

void compare_at_equal_bytes(std::vector<SummaryRow>& rows) {
  std::vector<Point> points;
  for (const SummaryRow& row : rows)
    if (row.method == kBaseline && row.mae > 0 && std::isfinite(row.mae))
      points.push_back({row.effective_bits, std::log(row.mae)});
  std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.bits < b.bits; });
  points.erase(std::unique(points.begin(), points.end(),
                           [](const Point& a, const Point& b) { return a.bits == b.bits; }),
               points.end());
  for (SummaryRow& row : rows)
    row.ratio_at_equal_bytes =
        row.method == kBaseline ? kNan : row.mae / baseline_mae(points, row.effective_bits);
}

}  // namespace

std::vector<SummaryRow> summarize(const std::vector<LayerResult>& layers) {
  if (layers.empty()) return {};
  const size_t n_rows = layers[0].results.size();
  std::vector<SummaryRow> rows(n_rows);
  // tq-mse at the same budget is what a row is held against
  auto baseline = [&](const LayerResult& layer, double bits) -> const MethodResult* {
    for (const MethodResult& r : layer.results)
      if (r.method == kBaseline && r.bits == bits) return &r;
    return nullptr;
  };
  for (size_t i = 0; i < n_rows; ++i) {
    SummaryRow& row = rows[i];
    row.method = layers[0].results[i].method;
    row.bits = layers[0].results[i].bits;
    row.layers = int(layers.size());
    double base_mae = 0;
    bool has_base = true;
    for (const LayerResult& layer : layers) {
      const MethodResult& r = layer.results[i];
      row.mae += r.mae;
      row.effective_bits += r.effective_bits;
      row.bytes_per_token += r.bytes_per_token;
      if (const MethodResult* base = baseline(layer, r.bits)) {
        base_mae += base->mae;
        row.wins += r.mae < base->mae;
      } else {
        has_base = false;
      }
    }
    row.mae /= row.layers;
    row.effective_bits /= row.layers;
    base_mae /= row.layers;
    row.ratio_to_tq_mse = has_base && base_mae > 0 ? row.mae / base_mae : kNan;
    for (const MetricValue& first : layers[0].results[i].metrics) {
      const size_t m = row.metrics.size();
      std::vector<std::vector<ChunkSum>> parts;
      for (const LayerResult& layer : layers) parts.push_back(layer.results[i].metrics[m].chunks);
      row.metrics.push_back(metric_value(first.metric, parts));
      if (first.metric == Metric::mae) row.metrics.back().value = row.mae;
    }
  }
  compare_at_equal_bytes(rows);
  return rows;
}

}  // namespace blockgtq
