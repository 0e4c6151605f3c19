#include "report/panel_charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/chart.h"
#include "report/page.h"
#include "report/panel_tables.h"

namespace blockgtq {
namespace {

int color_of(const PanelView& view, size_t method) {
  return int(method) + (view.has_baseline ? 0 : 1);
}

/// The error of every layer at these budgets: one colour per method, one kind of line per budget.
std::string error_chart(const PanelView& view, const Json& eval, const std::vector<double>& budgets) {
  const bool one = budgets.size() == 1;
  Chart chart;
  chart.title = "Logit error per layer" + (one ? ", " + bits_title(budgets[0]) : "");
  chart.x_title = "layer";
  chart.y_title = "MAE";
  const Json& layers = eval.at("layers");
  for (const Json& layer : layers) chart.x.push_back(layer.at("layer").get<double>());
  double least = INFINITY, most = 0;
  for (size_t b = 0; b < budgets.size(); ++b)
    for (size_t m = 0; m < view.methods.size(); ++m) {
      Series series{method_title(view.methods[m]) + (one ? "" : ", " + bits_title(budgets[b])),
                    {},
                    color_of(view, m),
                    int(b)};
      bool any = false;
      for (const Json& layer : layers) {
        const Json* r = find_result(layer, view.methods[m], budgets[b]);
        const double mae = r && !r->at("mae").is_null() ? r->at("mae").get<double>() : NAN;
        series.y.push_back(mae);
        any |= r != nullptr;
        if (mae > 0) least = std::min(least, mae), most = std::max(most, mae);
      }
      if (any) chart.series.push_back(std::move(series));
    }
  chart.log_y = most > 12 * least;  // else the lower lines would lie on the axis
  if (chart.log_y) chart.y_title += ", logarithmic";
  return page_chart(line_chart(chart));
}

}  // namespace

std::string error_charts(const PanelView& view, const Json& eval) {
  constexpr size_t kMaxLines = 6;  // more than an eye can follow in one chart: then one for each budget
  if (view.budgets.size() * view.methods.size() <= kMaxLines) return error_chart(view, eval, view.budgets);
  std::string out;
  for (double bits : view.budgets) out += error_chart(view, eval, {bits});
  return out;
}

std::string error_against_bytes(const PanelView& view) {
  Chart chart;
  chart.title = "Error against bytes per token";
  chart.x_title = "bytes per token of keys";
  chart.y_title = "MAE, logarithmic";
  if (view.n_ok > 1) {
    chart.title += ", geometric means over the models";
    chart.x_title += ", geometric mean";
  }
  chart.log_y = true;
  chart.names_at_ends = true;
  for (size_t m = 0; m < view.methods.size(); ++m) {
    Series series{method_title(view.methods[m]), {}, color_of(view, m)};
    for (size_t b = 0; b < view.budgets.size(); ++b) {
      const PanelMean mean = view.mean(b, m);
      series.x.push_back(mean.bytes_per_token);
      series.y.push_back(mean.mae);
    }
    if (std::isfinite(series.y[0])) chart.series.push_back(std::move(series));
  }
  if (chart.series.empty()) return "";
  chart.series.insert(chart.series.begin(), lowest_within("lowest error within these bytes", chart.series));
  return page_figure(line_chart(chart));
}

}  // namespace blockgtq
