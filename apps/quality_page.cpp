#include "quality_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "quality_chart.h"
#include "report/chart.h"
#include "report/map_view.h"
#include "report/page.h"

namespace blockgtq {
namespace {

constexpr const char* kNote =
    "<p class=\"note\">KL: of the next token's distribution against that under the exact cache, in nats per "
    "token; ± is a standard error. Same top: tokens whose likeliest successor stays the same. Bytes per "
    "token: "
    "of what is quantized, all layers, norms included. The exact cache against itself shows the noise of the "
    "arithmetic.</p>\n";

/// What the bits are of: the map's heads, where there is a map.
std::string map_part(const ModelQuality& model) {
  if (model.map.is_null()) return "";
  return "<div class=\"plots large\">\n" + share_charts(model.map.at("bit_shares")) + "</div>\n" +
         map_heads(model.map.at("heads"));
}

std::string chart(const std::vector<ModelQuality>& models) {
  for (const ModelQuality& m : models)
    if (m.caches.empty()) return "";
  std::vector<std::string> left_out;
  std::string out = page_figure(quality_chart(models, left_out));
  if (!left_out.empty())
    out += fmt::format("<p class=\"note\">A logarithmic axis has no place for a KL of 0: without {}.</p>\n",
                       escape(fmt::format("{}", fmt::join(left_out, "; "))));
  return out;
}

std::string card(const ModelQuality& model) {
  return fmt::format(
      "<article class=\"card\"><header><h3>{}</h3><span class=\"arch\">{} tokens in windows of {}, {}"
      "</span></header>\n{}{}</article>\n",
      escape(model.name), model.n_tokens, model.chunk, escape(model.device),
      quality_table(model).html(model.name), map_part(model));
}

std::string failed(const ModelFailure& failure) {
  return fmt::format(
      "<article class=\"card\"><header><h3>{}</h3></header><p class=\"error\">failed: {}</p></article>\n",
      escape(failure.name), escape(failure.error));
}

}  // namespace

std::string quality_html(const std::vector<ModelQuality>& models, const std::vector<ModelFailure>& failures,
                         bool chosen, const std::string& command) {
  const bool one = models.size() == 1 && failures.empty();
  Page page;
  page.title =
      one ? "Next tokens of " + models[0].name + " under quantized caches"
          : fmt::format("Next tokens of {} models under quantized caches", models.size() + failures.size());
  if (one && models[0].caches.empty()) page.title = "Perplexity of " + models[0].name;
  if (one)
    page.lead =
        escape(fmt::format("{} tokens in windows of {}, {}{}.", models[0].n_tokens, models[0].chunk,
                           models[0].device, models[0].pages ? "; caches are as pages hold them" : ""));
  std::vector<std::string> other_models;
  std::string caches;
  if (one)
    caches = quality_table(models[0]).html("Caches") + chart(models) + kNote;
  else if (!models.empty() && !chosen)
    caches =
        quality_grid(models, other_models).html("Mean KL") +
        fmt::format(
            "<p class=\"note\">Mean KL, geometric mean over {} models{}.</p>\n",
            models.size() - other_models.size(),
            other_models.empty() ? "" : escape(fmt::format("; without {}", fmt::join(other_models, ", ")))) +
        chart(models);
  page.body = page_section("Caches", caches);
  if (chosen && !models.empty())
    page.body += page_section("Chosen on the calibration text", choice_table(models).html("Choices"));
  std::string parts;
  if (one)
    page.body += page_section("Bits and energy of blocks", map_part(models[0]));
  else
    for (const ModelQuality& model : models) parts += card(model);
  for (const ModelFailure& failure : failures) parts += failed(failure);
  page.body += page_section("Models", parts.empty() || one ? parts : parts + kNote);
  page.command = command;
  for (const ModelQuality& model : models) {
    Json facts = Json::object();
    for (const auto& [key, value] : model.provenance) facts[key] = value;
    page.provenance.emplace_back(one ? "" : model.name, std::move(facts));
  }
  page.version = BLOCKGTQ_VERSION;
  page.data = quality_json(models, failures);
  return page_html(page);
}

}  // namespace blockgtq
