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

bool is_complete(const PanelModel& model) {
  for (const auto& row : model.cells)
    for (const auto& cell : row)
      if (!cell || !(cell->mae > 0)) return false;
  return !model.cells.empty();
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
                    number(row.at("ratio_at_equal_bytes")),
                    number(row.at("effective_bits")),
                    number(row.at("bytes_per_token")),
                    row.at("wins"),
                    row.at("layers"),
                    interpolated};
    }
    for (const auto& row : model.cells)
      for (const auto& cell : row) has_equal_bytes |= cell && std::isfinite(cell->equal_bytes_ratio);
  }
}

PanelMean PanelView::mean(size_t budget, size_t method) const {
  PanelMean mean{};
  mean.worst_equal_bytes_ratio = kNan;
  double log_ratio = 0, log_equal = 0, log_mae = 0, log_bytes = 0;
  int complete = 0;
  for (const PanelModel& model : models) {
    if (model.cells.empty()) continue;
    if (is_complete(model)) {
      log_mae += std::log(model.cells[budget][method]->mae);
      log_bytes += std::log(model.cells[budget][method]->bytes_per_token);
      ++complete;
    }
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
  mean.mae = std::exp(log_mae / complete);
  mean.bytes_per_token = std::exp(log_bytes / complete);
  mean.effective_bits /= mean.models;
  mean.baseline_effective_bits /= mean.models;
  return mean;
}

Json panel_summary(const Json& panel) {
  const PanelView view(panel);
  Json rows = Json::array();
  auto json = [](double value) { return std::isfinite(value) ? Json(value) : Json(); };
  for (size_t b = 0; b < view.budgets.size(); ++b)
    for (size_t m = 0; m < view.methods.size(); ++m) {
      const PanelMean mean = view.mean(b, m);
      rows.push_back({{"method", view.methods[m]},
                      {"bits", view.budgets[b]},
                      {"models", mean.models},
                      {"mae", json(mean.mae)},
                      {"ratio_to_tq_mse", json(mean.ratio)},
                      {"ratio_at_equal_bytes", json(mean.equal_bytes_ratio)},
                      {"worst_at_equal_bytes", json(mean.worst_equal_bytes_ratio)},
                      {"wins", mean.wins},
                      {"layers", mean.layers},
                      {"effective_bits", json(mean.effective_bits)},
                      {"bytes_per_token", json(mean.bytes_per_token)}});
    }
  return rows;
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
