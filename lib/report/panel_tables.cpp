#include "report/panel_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/chart.h"
#include "report/number.h"

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

/// The largest change on the page: the bars of all tables have one scale.
double largest_change(const PanelView& view) {
  double most = 0;
  for (const PanelModel& model : view.models)
    for (const auto& row : model.cells)
      for (const auto& cell : row)
        if (cell && std::isfinite(cell->ratio)) most = std::max(most, std::abs(1 - cell->ratio));
  return most;
}

std::string reduction_cell(double ratio, double scale) {
  if (std::isnan(ratio)) return "<td class=\"bar\">–</td>";
  const double share = scale > 0 ? std::abs(1 - ratio) / scale : 0;
  return fmt::format(
      "<td class=\"bar {}\" title=\"ratio {}\"><span><i style=\"width:{:.1f}%\"></i><b>{}</b></span></td>",
      verdict(ratio), exact(ratio), 100 * std::min(share, 1.0), reduction(ratio));
}

std::string percent_cell(double ratio) {
  if (std::isnan(ratio)) return "<td>–</td>";
  return fmt::format("<td class=\"{}\" title=\"ratio {}\">{}</td>", verdict(ratio), exact(ratio),
                     reduction(ratio));
}

std::string head_cell(const std::string& text, bool first, int columns = 1) {
  const std::string cls = first ? " class=\"first\"" : "";
  if (columns > 1)
    return fmt::format("<th scope=\"colgroup\" colspan=\"{}\"{}>{}</th>", columns, cls, escape(text));
  return fmt::format("<th scope=\"col\"{}>{}</th>", cls, escape(text));
}

std::string box(const std::string& label, const std::string& table) {
  return fmt::format(
      "<div class=\"scroll\" role=\"region\" aria-label=\"{}\" tabindex=\"0\"><table>\n{}</table></div>\n",
      escape(label), table);
}

/// The columns that compare a method with tq-mse, between its MAE and its size.
std::string comparison_cells(const PanelView& view, double ratio, double equal_bytes_ratio,
                             const std::string& wins, double scale) {
  std::string out = reduction_cell(ratio, scale);
  if (view.has_equal_bytes) out += percent_cell(equal_bytes_ratio);
  return out + "<td>" + wins + "</td>";
}

std::string summary_head(const PanelView& view) {
  std::string groups = "<tr><th rowspan=\"2\" scope=\"col\">Model</th>", names = "<tr>";
  for (size_t m = 0; m < view.methods.size(); ++m) {
    const bool compared = view.has_baseline && m > 0;
    groups += head_cell(method_title(view.methods[m]), true, compared ? 5 + view.has_equal_bytes : 3);
    names += head_cell("MAE", true);
    if (compared) {
      names += head_cell("reduction", false);
      if (view.has_equal_bytes) names += head_cell("at equal bytes", false);
      names += head_cell("wins", false);
    }
    names += head_cell("effective bits", false) + head_cell("bytes/token", false);
  }
  return "<thead>" + groups + "</tr>\n" + names + "</tr></thead>\n";
}

std::string mean_row(const PanelView& view, size_t budget, double scale) {
  std::string out = "<tfoot><tr><th scope=\"row\">Geometric mean</th>";
  for (size_t m = 0; m < view.methods.size(); ++m) {
    const PanelMean mean = view.mean(budget, m);
    out += number_cell(mean.ratio, "first", "×");
    if (m > 0)
      out += comparison_cells(view, mean.ratio, mean.equal_bytes_ratio,
                              mean.models ? fmt::format("{}/{}", mean.wins, mean.layers) : "–", scale);
    out += "<td></td><td></td>";
  }
  return out + "</tr></tfoot>\n";
}

}  // namespace

const Json* find_result(const Json& layer, const std::string& method, double bits) {
  for (const Json& r : layer.at("results"))
    if (r.at("method") == method && r.at("bits") == bits) return &r;
  return nullptr;
}

std::string summary_table(const PanelView& view, size_t budget) {
  const double scale = largest_change(view);
  std::string body = summary_head(view) + "<tbody>\n";
  size_t n_columns = 0;
  for (size_t m = 0; m < view.methods.size(); ++m)
    n_columns += view.has_baseline && m > 0 ? 5 + view.has_equal_bytes : 3;
  for (size_t i = 0; i < view.models.size(); ++i) {
    const PanelModel& model = view.models[i];
    const bool failed = model.cells.empty();
    body += fmt::format("<tr{}><th scope=\"row\"><a href=\"#model-{}\">{}</a></th>",
                        failed ? " class=\"failed\"" : "", i, escape(model.name));
    if (failed) {
      body += fmt::format("<td class=\"first\" colspan=\"{}\">failed: {}</td></tr>\n", n_columns,
                          escape(model.error));
      continue;
    }
    for (size_t m = 0; m < view.methods.size(); ++m) {
      const PanelCell missing{NAN, NAN, NAN, NAN, NAN, 0, 0, false},
          &cell = model.cells[budget][m] ? *model.cells[budget][m] : missing;
      body += number_cell(cell.mae, "first", cell.interpolated ? "*" : "");
      if (view.has_baseline && m > 0)
        body += comparison_cells(view, cell.ratio, cell.equal_bytes_ratio,
                                 cell.layers ? fmt::format("{}/{}", cell.wins, cell.layers) : "–", scale);
      body += number_cell(cell.effective_bits) + number_cell(cell.bytes_per_token);
    }
    body += "</tr>\n";
  }
  body += "</tbody>\n";
  if (view.has_baseline) body += mean_row(view, budget, scale);
  return box("Summary at " + bits_title(view.budgets[budget]), body);
}

std::string layer_table(const PanelView& view, const PanelModel& model) {
  std::string groups = "<tr><th rowspan=\"2\" scope=\"col\">Layer</th>", names = "<tr>";
  for (double bits : view.budgets)
    for (const std::string& method : view.methods) {
      groups += head_cell(method_title(method) + ", " + bits_title(bits), true, 3);
      names += head_cell("MAE", true) + head_cell("eff. bits", false) + head_cell("bytes", false);
    }
  std::string body = "<thead>" + groups + "</tr>\n" + names + "</tr></thead>\n<tbody>\n";
  auto number = [](const Json* r, const char* key) {
    return r && !r->at(key).is_null() ? r->at(key).get<double>() : NAN;
  };
  for (const Json& layer : model.json->at("eval").at("layers")) {
    body += fmt::format("<tr><th scope=\"row\">{}</th>", layer.at("layer").dump());
    for (double bits : view.budgets)
      for (size_t m = 0; m < view.methods.size(); ++m) {
        const Json* r = find_result(layer, view.methods[m], bits);
        const double mae = number(r, "mae");
        const double base =
            view.has_baseline && m > 0 ? number(find_result(layer, kBaseline, bits), "mae") : NAN;
        body += number_cell(mae, (std::string("first ") + verdict(mae / base)).c_str()) +
                number_cell(number(r, "effective_bits")) + number_cell(number(r, "bytes_per_token"));
      }
    body += "</tr>\n";
  }
  return box("Numbers of every layer of " + model.name, body + "</tbody>\n");
}

}  // namespace blockgtq
