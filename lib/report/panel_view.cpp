#include "report/panel_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/number.h"

namespace blockgtq {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double number(const Json& json) {
  return json.is_null() ? kNan : json.get<double>();
}

template <class T>
size_t index_of(const std::vector<T>& values, const T& value) {
  return std::find(values.begin(), values.end(), value) - values.begin();
}

template <class T>
void add_once(std::vector<T>& values, const T& value) {
  if (index_of(values, value) == values.size()) values.push_back(value);
}

bool is_interpolated(const Json& eval, const std::string& method, double bits) {
  for (const Json& layer : eval.at("layers"))
    for (const Json& r : layer.at("results"))
      if (r.at("method") == method && r.at("bits") == bits) return r.value("interpolated", false);
  return false;
}

struct Point {
  double bits, log_mae;
};

/// tq-mse's error at an effective size between its measured ones, or beyond them. Log error is close to
/// linear in bits. So neighbouring points are joined by lines, and the outermost lines are extended. NaN with
/// fewer than two sizes.
double baseline_mae(const std::vector<Point>& points, double effective_bits) {
  if (points.size() < 2) return kNan;
  size_t i = 1;
  while (i + 1 < points.size() && points[i].bits < effective_bits) ++i;
  const Point &a = points[i - 1], &b = points[i];
  return std::exp(a.log_mae + (b.log_mae - a.log_mae) * (effective_bits - a.bits) / (b.bits - a.bits));
}

void compare_at_equal_bytes(PanelModel& model) {
  std::vector<Point> points;
  for (const auto& row : model.cells)
    if (row[0] && row[0]->mae > 0 && std::isfinite(row[0]->mae))
      points.push_back({row[0]->effective_bits, std::log(row[0]->mae)});
  std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.bits < b.bits; });
  points.erase(std::unique(points.begin(), points.end(),
                           [](const Point& a, const Point& b) { return a.bits == b.bits; }),
               points.end());
  for (auto& row : model.cells)
    for (size_t m = 1; m < row.size(); ++m)
      if (row[m]) row[m]->equal_bytes_ratio = row[m]->mae / baseline_mae(points, row[m]->effective_bits);
}

}  // namespace

PanelView::PanelView(const Json& panel) {
  for (const Json& m : panel.at("models")) {
    const bool ok = m.at("status") == "ok";
    models.push_back({m.at("name"), ok ? "" : m.at("error").get<std::string>(), &m, {}});
    if (!ok) continue;
    ++n_ok;
    for (const Json& row : m.at("eval").at("summary")) {
      add_once(budgets, row.at("bits").get<double>());
      add_once(methods, row.at("method").get<std::string>());
    }
  }
  std::sort(budgets.begin(), budgets.end());
  std::stable_partition(methods.begin(), methods.end(), [](const std::string& m) { return m == kBaseline; });
  has_baseline = !methods.empty() && methods[0] == kBaseline;

  for (PanelModel& model : models) {
    if (!model.error.empty() || model.json->at("status") != "ok") continue;
    model.cells.assign(budgets.size(), std::vector<std::optional<PanelCell>>(methods.size()));
    const Json& eval = model.json->at("eval");
    for (const Json& row : eval.at("summary")) {
      const auto method = row.at("method").get<std::string>();
      const double bits = row.at("bits").get<double>();
      const bool interpolated = is_interpolated(eval, method, bits);
      has_interpolated |= interpolated;
      model.cells[index_of(budgets, bits)][index_of(methods, method)] =
          PanelCell{number(row.at("mae")),
                    number(row.at("ratio_to_tq_mse")),
                    kNan,
                    number(row.at("effective_bits")),
                    number(row.at("bytes_per_token")),
                    row.at("wins"),
                    row.at("layers"),
                    interpolated};
    }
    if (has_baseline) compare_at_equal_bytes(model);
    for (const auto& row : model.cells)
      for (const auto& cell : row) has_equal_bytes |= cell && std::isfinite(cell->equal_bytes_ratio);
  }
}

PanelMean PanelView::mean(size_t budget, size_t method) const {
  PanelMean mean{};
  mean.worst_equal_bytes_ratio = kNan;
  double log_ratio = 0, log_equal = 0;
  for (const PanelModel& model : models) {
    if (model.cells.empty()) continue;
    const auto &cell = model.cells[budget][method], &base = model.cells[budget][0];
    if (!cell || !base || !(cell->ratio > 0)) continue;
    log_ratio += std::log(cell->ratio);
    log_equal += std::log(cell->equal_bytes_ratio);
    if (mean.models == 0 || !(cell->equal_bytes_ratio <= mean.worst_equal_bytes_ratio))
      mean.worst_equal_bytes_ratio = cell->equal_bytes_ratio;
    mean.effective_bits += cell->effective_bits;
    mean.baseline_effective_bits += base->effective_bits;
    mean.wins += cell->wins;
    mean.layers += cell->layers;
    ++mean.models;
  }
  mean.ratio = std::exp(log_ratio / mean.models);  // without models 0 / 0, which is a NaN
  mean.equal_bytes_ratio = std::exp(log_equal / mean.models);
  mean.effective_bits /= mean.models;
  mean.baseline_effective_bits /= mean.models;
  return mean;
}

std::string method_title(const std::string& method) {
  if (method == kBaseline) return "TQ-MSE";
  if (method == "block-gtq") return "Block-GTQ";
  return method;
}

std::string bits_title(double bits) {
  return exact(bits) + (bits == 1 ? " bit" : " bits");
}

std::string count_title(size_t n, const std::string& noun) {
  return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
}

std::string eval_title(const Json& eval) {
  const auto chunk = eval.at("chunk").get<int64_t>();
  return fmt::format("{} tokens in {}, {} offsets within ±{}, {}", eval.at("tokens").get<int64_t>(),
                     chunk == 0 ? std::string("one window") : fmt::format("chunks of {}", chunk),
                     eval.at("offsets").get<int64_t>(), eval.at("window").get<int64_t>(),
                     eval.at("device").get<std::string>());
}

}  // namespace blockgtq
