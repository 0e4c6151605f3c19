#include <fmt/format.h>

#include <cmath>

#include "report/number.h"
#include "report/panel_report.h"
#include "report/panel_view.h"
#include "report/table.h"

namespace blockgtq {
namespace {

/// "a / b" over the methods; empty where no method has a number.
template <class F>
std::string per_method(const std::vector<std::optional<PanelCell>>& cells, F&& text) {
  std::string out;
  bool any = false;
  for (size_t m = 0; m < cells.size(); ++m) {
    any |= cells[m].has_value();
    out += (m ? " / " : "") + (cells[m] ? text(*cells[m]) : std::string("-"));
  }
  return any ? out : "";
}

std::vector<std::string> header(const PanelView& view) {
  std::vector<std::string> cells = {"model"};
  for (const std::string& m : view.methods) cells.push_back(method_title(m));
  for (size_t m = view.first_other(); m < view.methods.size() && view.has_baseline; ++m) {
    const std::string of = view.methods.size() > 2 ? method_title(view.methods[m]) + " " : "";
    cells.push_back(of + "reduction");
    if (view.has_equal_bytes) cells.push_back(of + "at equal bytes");
    cells.push_back(of + "wins");
  }
  cells.push_back("effective bits");
  cells.push_back("bytes per token");
  return cells;
}

std::vector<std::string> model_row(const PanelView& view, const PanelModel& model, size_t budget) {
  std::vector<std::string> cells = {model.name};
  for (const auto& cell : model.cells[budget])
    cells.push_back(cell ? three_digits(cell->mae) + (cell->interpolated ? "*" : "") : "");
  for (size_t m = view.first_other(); m < view.methods.size() && view.has_baseline; ++m) {
    const auto& cell = model.cells[budget][m];
    cells.push_back(cell ? percent(1 - cell->ratio) : "");
    if (view.has_equal_bytes) cells.push_back(cell ? percent(1 - cell->equal_bytes_ratio) : "");
    cells.push_back(cell ? fmt::format("{}/{}", cell->wins, cell->layers) : "");
  }
  cells.push_back(
      per_method(model.cells[budget], [](const PanelCell& c) { return three_digits(c.effective_bits); }));
  cells.push_back(
      per_method(model.cells[budget], [](const PanelCell& c) { return three_digits(c.bytes_per_token); }));
  return cells;
}

std::vector<std::string> mean_row(const PanelView& view, size_t budget) {
  std::vector<std::string> cells = {"geometric mean of ratios"}, compared;
  for (size_t m = 0; m < view.methods.size(); ++m) {
    const PanelMean mean = view.mean(budget, m);
    cells.push_back(three_digits(mean.ratio));
    if (m < view.first_other()) continue;
    compared.push_back(percent(1 - mean.ratio));
    if (view.has_equal_bytes) compared.push_back(percent(1 - mean.equal_bytes_ratio));
    compared.push_back(mean.models ? fmt::format("{}/{}", mean.wins, mean.layers) : "");
  }
  if (view.has_baseline) cells.insert(cells.end(), compared.begin(), compared.end());
  cells.resize(header(view).size());
  return cells;
}

/// Methods against budgets: "ratio; at equal bytes, worst model at equal bytes". Ratios are geometric means
/// over the models.
Table method_table(const PanelView& view) {
  std::vector<std::string> cells = {"method"};
  for (const double bits : view.budgets) {
    cells.push_back(bits_title(bits));
    if (view.has_equal_bytes) cells.insert(cells.end(), {"at equal bytes", "worst model"});
  }
  Table table(cells);
  for (size_t m = 0; m < view.methods.size(); ++m) {
    cells = {method_title(view.methods[m])};
    for (size_t b = 0; b < view.budgets.size(); ++b) {
      const PanelMean mean = view.mean(b, m);
      cells.push_back(three_digits(mean.ratio));
      if (!view.has_equal_bytes) continue;
      const bool compared = m >= view.first_other();
      cells.push_back(compared ? three_digits(mean.equal_bytes_ratio) : "");
      cells.push_back(compared ? three_digits(mean.worst_equal_bytes_ratio) : "");
    }
    table.row(cells);
  }
  return table;
}

}  // namespace

std::string panel_markdown(const Json& panel) {
  const PanelView view(panel);
  std::string out =
      "# blockgtq panel\n\nMean absolute error of the attention logits when keys are quantized, mean over "
      "layers; lower is better.\n";
  if (view.has_equal_bytes)
    out +=
        "At equal bytes: against TQ-MSE interpolated (in log error) to the same effective bits, norms and "
        "padding counted.\n";
  if (view.has_interpolated)
    out += "A star marks a method of whole bits interpolated between the neighbouring budgets.\n";
  if (view.n_ok < int(view.models.size())) {
    out += fmt::format("\n{} of {} failed:\n\n", view.models.size() - view.n_ok,
                       count_title(view.models.size(), "model"));
    Table table({"model", "error"});
    for (const PanelModel& model : view.models)
      if (model.cells.empty()) table.row({model.name, model.error});
    out += table.markdown();
  }
  if (view.has_baseline && view.methods.size() > 2)
    out += "\n## Methods\n\nError over that of TQ-MSE at the same budget, geometric mean over the models" +
           std::string(view.has_equal_bytes
                           ? "; the same at equal bytes, and the model with the largest ratio there"
                           : "") +
           ".\n\n" + method_table(view).markdown();
  for (size_t b = 0; b < view.budgets.size(); ++b) {
    Table table(header(view));
    for (const PanelModel& model : view.models) {
      std::vector<std::string> failed = {model.name + " (failed)"};
      failed.resize(header(view).size());
      table.row(model.cells.empty() ? failed : model_row(view, model, b));
    }
    if (view.has_baseline) table.row(mean_row(view, b));
    out += fmt::format("\n## {}\n\n{}", bits_title(view.budgets[b]), table.markdown());
  }
  out += fmt::format("\n## Provenance\n\n    {}\n\n", panel.at("command").get<std::string>());
  Table origin({"what", "value"});
  for (const auto& [key, value] : panel.at("provenance").items())
    origin.row({key, value.is_string() ? value.get<std::string>() : value.dump()});
  return out + origin.markdown();
}

std::string panel_csv(const Json& panel) {
  Table table({"model", "bits", "method", "layer", "mae", "effective_bits", "bytes_per_token", "error"});
  auto number = [](const Json& json) { return json.is_null() ? std::string() : exact(json.get<double>()); };
  for (const Json& model : panel.at("models")) {
    const auto name = model.at("name").get<std::string>();
    if (model.at("status") != "ok") {
      table.row({name, "", "", "", "", "", "", model.at("error")});
      continue;
    }
    for (const Json& s : model.at("eval").at("summary")) {
      auto row = [&](const std::string& layer, const Json& r, double bytes) {
        table.row({name, number(s.at("bits")), s.at("method"), layer, number(r.at("mae")),
                   number(r.at("effective_bits")), exact(bytes), ""});
      };
      for (const Json& layer : model.at("eval").at("layers"))
        for (const Json& r : layer.at("results"))
          if (r.at("method") == s.at("method") && r.at("bits") == s.at("bits"))
            row(layer.at("layer").dump(), r, r.at("bytes_per_token").get<double>());
      // The summary's bytes are those of all layers, and a row's those of one.
      row("mean", s, s.at("bytes_per_token").get<double>() / s.at("layers").get<double>());
    }
  }
  return table.csv();
}

}  // namespace blockgtq
