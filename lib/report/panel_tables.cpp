#include "report/panel_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "report/chart.h"
#include "report/number.h"
#include "report/page.h"

namespace blockgtq {
namespace {

/// A cell with three digits, and the exact value as its tooltip.
std::string number_cell(double value, const char* cls = "", const char* suffix = "") {
  const std::string attribute = *cls ? fmt::format(" class=\"{}\"", cls) : "";
  if (std::isnan(value)) return fmt::format("<td{}>–</td>", attribute);
  return fmt::format("<td{} title=\"{}\">{}{}</td>", attribute, exact(value), three_digits(value), suffix);
}

const char* verdict(double ratio) {
  return std::isnan(ratio) ? "" : ratio <= 1 ? "better" : "worse";
}

/// 1 - ratio with a true minus sign.
std::string reduction(double ratio) {
  std::string text = percent(1 - ratio);
  if (text[0] == '-') text.replace(0, 1, "−");
  return text;
}

/// Tables sort by the first number of a tooltip.
std::string reduction_title(double ratio) {
  return fmt::format("{:.4f} % less, ratio {}", 100 * (1 - ratio), exact(ratio));
}

std::string reduction_cell(double ratio) {
  if (std::isnan(ratio)) return "<td>–</td>";
  return fmt::format("<td class=\"{}\" title=\"{}\">{}</td>", verdict(ratio), reduction_title(ratio),
                     reduction(ratio));
}

/// With a bar beside the number; scale: |1 - ratio| of the longest.
std::string bar_cell(double ratio, double scale) {
  if (std::isnan(ratio)) return "<td class=\"bar\">–</td>";
  const double share = scale > 0 ? std::abs(1 - ratio) / scale : 0;
  return fmt::format(
      "<td class=\"bar {}\" title=\"{}\"><span><i style=\"width:{:.1f}%\"></i><b>{}</b></span></td>",
      verdict(ratio), reduction_title(ratio), 100 * std::min(share, 1.0), reduction(ratio));
}

std::string wins_cell(int wins, int layers) {
  return layers == 0 ? "<td>–</td>" : fmt::format("<td>{}/{}</td>", wins, layers);
}

std::string head_cell(const std::string& text, const char* cls = "number") {
  return fmt::format("<th scope=\"col\" class=\"{}\">{}</th>", cls, escape(text));
}

/// What a table of models can show.
struct Quantity {
  const char* name;
  bool compared;  // with tq-mse, which has no column then
  std::function<std::string(const PanelCell&)> cell;
  std::function<std::string(const PanelMean&)> mean;  // none: no row of means
};

std::vector<Quantity> quantities(const PanelView& view) {
  std::vector<Quantity> all;
  if (view.has_equal_bytes)
    all.push_back({"less error than TQ-MSE at equal bytes", true,
                   [](const PanelCell& c) { return reduction_cell(c.equal_bytes_ratio); },
                   [](const PanelMean& m) { return reduction_cell(m.equal_bytes_ratio); }});
  if (view.has_baseline) {
    all.push_back({"less error than TQ-MSE at the same bits", true,
                   [](const PanelCell& c) { return reduction_cell(c.ratio); },
                   [](const PanelMean& m) { return reduction_cell(m.ratio); }});
    all.push_back({"layers with less error than TQ-MSE", true,
                   [](const PanelCell& c) { return wins_cell(c.wins, c.layers); },
                   [](const PanelMean& m) { return wins_cell(m.wins, m.layers); }});
  }
  all.push_back({"mean absolute error", false,
                 [](const PanelCell& c) { return number_cell(c.mae, "", c.interpolated ? "*" : ""); },
                 [](const PanelMean& m) { return number_cell(m.mae); }});
  all.push_back({"effective bits per key coordinate",
                 false,
                 [](const PanelCell& c) { return number_cell(c.effective_bits); },
                 {}});
  all.push_back(
      {"bytes per token", false, [](const PanelCell& c) { return number_cell(c.bytes_per_token); }, {}});
  return all;
}

std::string model_table(const PanelView& view, const Quantity& quantity, size_t budget) {
  const size_t first = quantity.compared ? view.first_other() : 0;
  std::string out = "<thead><tr>" + head_cell("Model", "text");
  for (size_t m = first; m < view.methods.size(); ++m) out += head_cell(method_title(view.methods[m]));
  out += "</tr></thead>\n<tbody>\n";
  for (size_t i = 0; i < view.models.size(); ++i) {
    const PanelModel& model = view.models[i];
    const bool failed = model.cells.empty();
    out += fmt::format("<tr{}><th scope=\"row\"><a href=\"#model-{}\">{}</a></th>",
                       failed ? " class=\"failed\"" : "", i, escape(model.name));
    if (failed)
      out += fmt::format("<td colspan=\"{}\">failed: {}</td>",
                         std::max<size_t>(1, view.methods.size() - first), escape(model.error));
    else
      for (size_t m = first; m < view.methods.size(); ++m)
        out += model.cells[budget][m] ? quantity.cell(*model.cells[budget][m]) : "<td>–</td>";
    out += "</tr>\n";
  }
  out += "</tbody>\n";
  if (quantity.mean && view.n_ok > 1) {
    out += "<tfoot><tr><th scope=\"row\">All models</th>";
    for (size_t m = first; m < view.methods.size(); ++m) out += quantity.mean(view.mean(budget, m));
    out += "</tr></tfoot>\n";
  }
  const std::string title = bits_title(view.budgets[budget]);
  return fmt::format("<h3>{}</h3>\n", title) + page_table(fmt::format("{}, {}", quantity.name, title), out);
}

}  // namespace

const Json* find_result(const Json& layer, const std::string& method, double bits) {
  for (const Json& r : layer.at("results"))
    if (r.at("method") == method && r.at("bits") == bits) return &r;
  return nullptr;
}

std::string summary_table(const PanelView& view) {
  std::string out = "<thead><tr>" + head_cell("Method", "text") + head_cell("bits");
  if (view.has_equal_bytes) out += head_cell("less error at equal bytes") + head_cell("worst model there");
  if (view.has_baseline) out += head_cell("less error at the same bits") + head_cell("layers won");
  out += head_cell("MAE") + (view.has_baseline ? head_cell("effective bits") : "") + head_cell("bytes/token");
  out += "</tr></thead>\n<tbody>\n";
  double scale = 0;  // bars of all rows have one
  for (size_t b = 0; b < view.budgets.size(); ++b)
    for (size_t m = view.first_other(); m < view.methods.size(); ++m)
      if (const double ratio = view.mean(b, m).equal_bytes_ratio; std::isfinite(ratio))
        scale = std::max(scale, std::abs(1 - ratio));
  for (size_t b = 0; b < view.budgets.size(); ++b)
    for (size_t m = 0; m < view.methods.size(); ++m) {
      const PanelMean mean = view.mean(b, m);
      const bool compared = m >= view.first_other();
      out += fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td>", escape(method_title(view.methods[m])),
                         exact(view.budgets[b]));
      if (view.has_equal_bytes)
        out += bar_cell(compared ? mean.equal_bytes_ratio : NAN, scale) +
               reduction_cell(compared ? mean.worst_equal_bytes_ratio : NAN);
      if (view.has_baseline)
        out += reduction_cell(compared ? mean.ratio : NAN) + wins_cell(mean.wins, compared ? mean.layers : 0);
      out += number_cell(mean.mae) + (view.has_baseline ? number_cell(mean.effective_bits) : "") +
             number_cell(mean.bytes_per_token) + "</tr>\n";
    }
  return page_table("Methods", out + "</tbody>\n");
}

std::string model_tables(const PanelView& view) {
  std::string out;
  for (const Quantity& quantity : quantities(view)) {
    const bool first = out.empty();
    out += fmt::format("<div {}>\n", choice_mark(quantity.name, first));
    for (size_t b = 0; b < view.budgets.size(); ++b) out += model_table(view, quantity, b);
    out += "</div>\n";
  }
  return page_choice("Show", out);
}

std::string layer_table(const PanelView& view, const PanelModel& model) {
  std::string out = "<thead><tr>" + head_cell("Layer");
  for (const double bits : view.budgets)
    for (const std::string& method : view.methods)
      out += head_cell(method_title(method) + ", " + bits_title(bits));
  out += "</tr></thead>\n<tbody>\n";
  auto error = [](const Json* r) { return r && !r->at("mae").is_null() ? r->at("mae").get<double>() : NAN; };
  for (const Json& layer : model.json->at("eval").at("layers")) {
    out += fmt::format("<tr><th scope=\"row\">{}</th>", layer.at("layer").dump());
    for (const double bits : view.budgets)
      for (size_t m = 0; m < view.methods.size(); ++m) {
        const double mae = error(find_result(layer, view.methods[m], bits));
        const double base = view.has_baseline && m > 0 ? error(find_result(layer, kBaseline, bits)) : NAN;
        out += number_cell(mae, verdict(mae / base));
      }
    out += "</tr>\n";
  }
  return page_table("Errors of every layer of " + model.name, out + "</tbody>\n");
}

}  // namespace blockgtq
