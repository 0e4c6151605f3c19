#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "report/chart.h"
#include "report/map_view.h"
#include "report/number.h"
#include "report/page.h"
#include "report/panel_charts.h"
#include "report/panel_report.h"
#include "report/panel_tables.h"
#include "report/panel_view.h"
#include "report/risks.h"

namespace blockgtq {
namespace {

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i)
    out += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  return out;
}

/// A change in words: "17.4 % less error".
std::string change(double ratio) {
  return percent(std::abs(1 - ratio)) + (ratio <= 1 ? " less error" : " more error");
}

/// The same with a large number.
std::string large_change(double ratio) {
  const std::string text = change(ratio);
  const size_t sign = text.find('%') + 1;
  return fmt::format("<b>{}</b>{}", text.substr(0, sign), text.substr(sign));
}

std::string lead(const PanelView& view) {
  std::vector<std::string> others;
  for (size_t m = view.first_other(); m < view.methods.size(); ++m)
    others.push_back(method_title(view.methods[m]));
  std::string text =
      fmt::format("How far attention logits move when the keys of {} are quantized before RoPE",
                  count_title(view.models.size(), "model"));
  if (view.has_baseline)
    text += fmt::format(": {}, one bit width for every RoPE block", method_title(kBaseline));
  if (!others.empty()) text += fmt::format("{}{}", view.has_baseline ? ", against " : ": ", join(others));
  if (others == std::vector<std::string>{"Block-GTQ"})
    text += ", which hands the same number of bits out block by block";
  return escape(text) + ". Mean absolute error; lower is better.";
}

/// Of every budget the method with the least error, at equal bytes where that is known.
std::string tiles(const PanelView& view) {
  std::string out;
  for (size_t b = 0; b < view.budgets.size() && view.has_baseline; ++b) {
    auto judged = [&](size_t m) {
      const PanelMean mean = view.mean(b, m);
      const double ratio = view.has_equal_bytes ? mean.equal_bytes_ratio : mean.ratio;
      return std::isnan(ratio) ? INFINITY : ratio;
    };
    size_t best = view.first_other();
    for (size_t m = best; m < view.methods.size(); ++m)
      if (judged(m) < judged(best)) best = m;
    if (best >= view.methods.size() || std::isinf(judged(best))) continue;
    const PanelMean mean = view.mean(b, best);
    out += fmt::format(
        "<div class=\"tile\"><div class=\"what\">Least error at {}: {}</div>\n"
        "<div class=\"big {}\" title=\"ratio {}\">{}</div>\n<div class=\"fine\">than TQ-MSE {}, {}",
        bits_title(view.budgets[b]), escape(method_title(view.methods[best])),
        judged(best) <= 1 ? "better" : "worse", exact(judged(best)), large_change(judged(best)),
        view.has_equal_bytes ? "at equal bytes" : "at the same bits",
        mean.models == 1 ? "one model" : fmt::format("geometric mean of {} models", mean.models));
    if (view.has_equal_bytes) out += ".<br/>At the same bits: " + change(mean.ratio);
    out += fmt::format(", lower in {} of {}, effective bits {} against {}.</div></div>\n", mean.wins,
                       count_title(mean.layers, "layer"), three_digits(mean.effective_bits),
                       three_digits(mean.baseline_effective_bits));
  }
  return out.empty() ? "" : "<div class=\"tiles\">\n" + out + "</div>\n";
}

std::string notes(const PanelView& view, const std::set<std::string>& evaluations) {
  std::string out =
      "<p class=\"note\">MAE: the mean absolute difference of q·k after RoPE between exact and quantized "
      "keys, over tokens, query heads and "
      "relative positions, then over KV heads and layers";
  if (evaluations.size() == 1) out += " (" + escape(*evaluations.begin()) + ")";
  out +=
      ". Effective bits: all bytes stored per key coordinate, norms and padding included. Bytes per token: "
      "keys of all layers.";
  if (view.has_baseline) out += " Layers won: those whose MAE is below that of TQ-MSE at the same budget.";
  if (view.has_equal_bytes)
    out +=
        " At equal bytes: against the MAE that TQ-MSE would have at the same effective bits, on the line "
        "through its budgets "
        "(logarithm of the MAE over effective bits), continued beyond the outermost.";
  if (view.has_interpolated)
    out += " A star marks a method of whole bits, interpolated between the neighbouring budgets.";
  return out + " Hover over a number or a mark for the exact value.</p>\n";
}

std::string architecture_line(const Json& a) {
  auto count = [&](const char* key) { return a.at(key).get<int64_t>(); };
  std::string text =
      fmt::format("{} · {} · {} query and {} · head dimension {}, {} rotary, {} pairing · RoPE {}",
                  a.at("model_type").get<std::string>(), count_title(count("layers"), "layer"),
                  count("heads"), count_title(count("kv_heads"), "KV head"), count("head_dim"),
                  count("rotary_dim"), a.at("pairing").get<std::string>(), a.at("rope").get<std::string>());
  return escape(text);
}

/// What there is to see of one model: errors of its layers, its map, what makes it hard.
std::string model_part(const PanelView& view, const PanelModel& model) {
  const Json& json = *model.json;
  const Json none;
  auto part = [&](const char* key) -> const Json& { return json.contains(key) ? json.at(key) : none; };
  std::string out = "<div class=\"plots large\">\n" + error_charts(view, json.at("eval"));
  out += share_charts(part("bit_shares")) + "</div>\n";
  if (json.contains("map")) out += map_heads(json.at("map"));
  out += risk_section(part("norms"), json.at("eval").at("layers"));
  return out + "<details><summary>Errors of every layer</summary>" + layer_table(view, model) +
         "</details>\n";
}

std::string card(const PanelView& view, const PanelModel& model, size_t number, bool own_evaluation) {
  std::string out =
      fmt::format("<article class=\"card\" id=\"model-{}\"><header><h3>{}</h3>", number, escape(model.name));
  if (model.cells.empty())
    return out + fmt::format("</header><p class=\"error\">failed: {}</p></article>\n", escape(model.error));
  const Json& json = *model.json;
  out += "<span class=\"arch\">" + architecture_line(json.at("architecture"));
  if (own_evaluation) out += " · " + escape(eval_title(json.at("eval")));
  return out + "</span></header>\n" + model_part(view, model) + "</article>\n";
}

std::string text_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

std::string panel_html(const Json& panel) {
  const PanelView view(panel);
  std::set<std::string> evaluations;
  for (const PanelModel& model : view.models)
    if (!model.cells.empty()) evaluations.insert(eval_title(model.json->at("eval")));
  const std::string models = count_title(view.models.size(), "model");
  Page page;
  page.title = "Key quantization, " + models;
  page.lead = lead(view);
  if (view.n_ok < int(view.models.size()))
    page.body += fmt::format("<p class=\"error\">{} of {} failed; the tables name each reason.</p>\n",
                             view.models.size() - view.n_ok, models);
  page.body += tiles(view);
  if (view.n_ok > 0)
    page.body +=
        page_section("Methods", summary_table(view) + error_against_bytes(view) + notes(view, evaluations));
  std::string cards;
  for (size_t i = 0; i < view.models.size(); ++i)
    cards += card(view, view.models[i], i, evaluations.size() > 1);
  page.body += page_section("Models", model_tables(view) + cards);
  page.command = panel.at("command").get<std::string>();
  page.provenance = {{"", panel.at("provenance")}};
  page.version = panel.at("version").get<std::string>();
  page.data = panel;
  return page_html(page);
}

std::string eval_html(const EvalPage& of) {
  const Json& eval = of.eval;
  Json model = {{"name", text_of(eval, "model")}, {"status", "ok"}, {"eval", eval}};
  if (of.map) {
    model["bit_shares"] = bit_shares(*of.map);
    model["map"] = map_view(*of.map);
  }
  const Json panel = {{"models", Json::array({model})}};
  const PanelView view(panel);
  Page page;
  page.title = "Logit error of " + text_of(eval, "model");
  page.lead = fmt::format(
      "How far attention logits move when keys are quantized before RoPE: {}. Mean absolute error; lower is "
      "better.",
      escape(eval_title(eval)));
  page.body =
      tiles(view) +
      page_section("Methods", summary_table(view) + of.tables + error_against_bytes(view) + notes(view, {})) +
      page_section("Layers", model_part(view, view.models[0]));
  page.command = of.command;
  page.provenance = {{"", eval.at("provenance")}};
  page.version = of.version;
  page.data = eval;
  return page_html(page);
}

}  // namespace blockgtq
