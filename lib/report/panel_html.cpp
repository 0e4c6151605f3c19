#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "report/chart.h"
#include "report/number.h"
#include "report/panel_report.h"
#include "report/panel_tables.h"
#include "report/panel_view.h"
#include "report/theme.h"

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

std::string tiles(const PanelView& view) {
  std::string out;
  for (size_t m = view.first_other(); m < view.methods.size() && view.has_baseline; ++m)
    for (size_t b = 0; b < view.budgets.size(); ++b) {
      const PanelMean mean = view.mean(b, m);
      if (mean.models == 0) continue;
      out += fmt::format(
          "<div class=\"tile\"><div class=\"what\">{} at {}</div>\n<div class=\"big {}\" title=\"ratio "
          "{}\">{}</div>\n",
          escape(method_title(view.methods[m])), bits_title(view.budgets[b]),
          mean.ratio <= 1 ? "better" : "worse", exact(mean.ratio), large_change(mean.ratio));
      out += fmt::format(
          "<div class=\"fine\">than TQ-MSE, geometric mean of {}; lower in {} of {}.<br/>Effective bits {} "
          "against {}",
          count_title(mean.models, "model"), mean.wins, count_title(mean.layers, "layer"),
          three_digits(mean.effective_bits), three_digits(mean.baseline_effective_bits));
      out += std::isnan(mean.equal_bytes_ratio)
                 ? ""
                 : fmt::format("; at equal bytes ≈ {}", change(mean.equal_bytes_ratio));
      out += ".</div></div>\n";
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
  if (view.has_baseline) out += " Wins: layers whose MAE is below that of TQ-MSE at the same budget.";
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

/// The error of every layer at these budgets: a colour per method, a kind of line per budget.
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
                    int(m) + (view.has_baseline ? 0 : 1),
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
  chart.log_y = most > 12 * least;  // otherwise the lower lines would lie on the axis
  if (chart.log_y) chart.y_title += ", logarithmic";
  return line_chart(chart);
}

std::string error_charts(const PanelView& view, const Json& eval) {
  constexpr size_t kMaxLines =
      6;  // one chart shows at most so many lines; with more there is a chart per budget
  if (view.budgets.size() * view.methods.size() <= kMaxLines) return error_chart(view, eval, view.budgets);
  std::string out;
  for (double bits : view.budgets) out += error_chart(view, eval, {bits});
  return out;
}

std::string card(const PanelView& view, const PanelModel& model, size_t number, bool own_evaluation) {
  std::string out =
      fmt::format("<article class=\"card\" id=\"model-{}\"><header><h3>{}</h3>", number, escape(model.name));
  if (model.cells.empty())
    return out + fmt::format("</header><p class=\"error\">failed: {}</p></article>\n", escape(model.error));
  const Json& json = *model.json;
  out += "<span class=\"arch\">" + architecture_line(json.at("architecture"));
  if (own_evaluation) out += " · " + escape(eval_title(json.at("eval")));
  if (json.contains("seconds")) out += fmt::format(" · {} s", three_digits(json.at("seconds").get<double>()));
  out += "</span></header>\n<div class=\"plots\">\n" + error_charts(view, json.at("eval"));
  for (const Json& share : json.at("bit_shares"))
    out += share_chart(fmt::format("Bit widths of blocks, average {}", exact(share.at("bits").get<double>())),
                       share.at("layers").get<std::vector<std::vector<double>>>());
  return out + "</div>\n<details><summary>Numbers of every layer</summary>" + layer_table(view, model) +
         "</details></article>\n";
}

std::string origin(const Json& panel) {
  std::string out = fmt::format("<h2>How it was made</h2>\n<pre tabindex=\"0\"><code>{}</code></pre>\n<dl>\n",
                                escape(panel.at("command").get<std::string>()));
  for (const auto& [key, value] : panel.at("provenance").items())
    out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape(key),
                       escape(value.is_string() ? value.get<std::string>() : value.dump()));
  return out + "</dl>\n";
}

}  // namespace

// XML-clean HTML: every element is closed, so that strict parsers read it too.
std::string panel_html(const Json& panel) {
  const PanelView view(panel);
  std::set<std::string> evaluations;
  for (const PanelModel& model : view.models)
    if (!model.cells.empty()) evaluations.insert(eval_title(model.json->at("eval")));
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" "
      "content=\"width=device-width, "
      "initial-scale=1\"/>\n<title>blockgtq panel: "
      "{}</title>\n<style>\n{}</style></head>\n<body><main>\n<h1>Key quantization, {}</h1>\n"
      "<p class=\"lead\">{}</p>\n",
      count_title(view.models.size(), "model"), page_style(), count_title(view.models.size(), "model"),
      lead(view));
  if (view.n_ok < int(view.models.size()))
    out += fmt::format("<p class=\"error\">{} of {} failed; the tables name each reason.</p>\n",
                       view.models.size() - view.n_ok, count_title(view.models.size(), "model"));
  out += tiles(view);
  for (size_t b = 0; b < view.budgets.size(); ++b)
    out += fmt::format("<h2 id=\"bits-{}\">{} per coordinate</h2>\n{}", b, bits_title(view.budgets[b]),
                       summary_table(view, b));
  out += notes(view, evaluations);
  out += "<h2>Models</h2>\n";
  for (size_t i = 0; i < view.models.size(); ++i)
    out += card(view, view.models[i], i, evaluations.size() > 1);
  out += origin(panel);
  return out + fmt::format("<p class=\"note\">blockgtq {}</p>\n</main></body></html>\n",
                           escape(panel.at("version").get<std::string>()));
}

}  // namespace blockgtq
