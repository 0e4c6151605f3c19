#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "report/chart.h"
#include "report/heat_map.h"
#include "report/page.h"
#include "task_report.h"

namespace blockgtq {
namespace {

/// Scores against bytes, of the average or the only group: a line for the budgets of every kind of cache, and
/// that of the exact cache as a band.
std::string score_chart(const TaskResult& result) {
  Chart chart;
  chart.title = "Score against bytes per token: " + result.name;
  chart.x_title = "bytes per token";
  chart.y_title = "score, per cent";
  chart.names_at_ends = true;
  const std::vector<TaskRow> rows = task_rows(result);
  double exact = NAN, low = INFINITY, high = 0;
  for (const TaskRow& row : rows) {
    if (row.group != rows.back().group) continue;
    if (row.cache == 0) {
      exact = 100 * row.score;
      continue;
    }
    CacheSpec kind = result.specs[row.cache];
    const std::string bits = pair_text(kind.bits), all = describe(kind);
    const std::string name = all.substr(std::min(all.size(), bits.size() + 1));  // without the bits
    auto line = std::find_if(chart.series.begin(), chart.series.end(),
                             [&](const Series& s) { return s.name == name; });
    if (line == chart.series.end())
      line = chart.series.insert(line, Series{name, {}, int(chart.series.size()) % 7 + 1});
    // ascending, so that lines go from left to right
    const auto at = std::lower_bound(line->x.begin(), line->x.end(), row.bytes) - line->x.begin();
    line->x.insert(line->x.begin() + at, row.bytes);
    line->y.insert(line->y.begin() + at, 100 * row.score);
    low = std::min(low, row.bytes);
    high = std::max(high, row.bytes);
  }
  if (chart.series.empty()) return "";
  Series band{"exact cache", {exact, exact}, 0, 0, {low, high}, Stroke::band};
  chart.series.insert(chart.series.begin(), std::move(band));
  return page_figure(line_chart(chart));
}

/// A map per cache with a row per group, where there are several.
std::string group_map(const TaskReport& report) {
  HeatMaps maps{"Scores of every group", "score", "", {"score"}, {}, {}};
  for (const std::string& column : report.columns)
    maps.y_title += (maps.y_title.empty() ? "" : ", ") + column;
  for (const TaskResult& result : report.results) {
    const std::vector<TaskRow> rows = task_rows(result);
    const size_t first = maps.maps.size();
    for (const std::string& name : result.cache_names) maps.maps.push_back({result.name + ": " + name, {}});
    std::vector<std::string> groups;
    for (const TaskRow& row : rows) {
      maps.maps[first + row.cache].values.push_back({row.score});
      if (row.cache == 0) groups.push_back(fmt::format("{}", fmt::join(row.group, " ")));
    }
    if (maps.rows.empty()) maps.rows = groups;
    if (maps.rows != groups) return "";  // models that were asked other things
  }
  return maps.rows.size() < 2 ? "" : page_figure(heat_map_svg(maps), "map");
}

}  // namespace

std::string TaskReport::html(const std::vector<ModelFailure>& failures, const std::string& typed,
                             const std::string& heat_map) const {
  Page page;
  page.title = fmt::format("{} under quantized caches", command);
  std::string names, scores;
  for (const TaskResult& result : results) names += (names.empty() ? "" : ", ") + result.name;
  page.lead = escape(names);
  scores = table(results.size() != 1).html("Scores");
  for (const TaskResult& result : results) scores += score_chart(result);
  scores +=
      "<p class=\"note\">Score: mean over answers, in per cent, with Wilson's 95 % interval. To exact: the "
      "difference to the exact cache over the same prompts and draws, with a bootstrap interval. Bytes per "
      "token: "
      "of what is quantized.</p>\n";
  page.body = page_section("Scores", scores);
  page.body += page_section(heat_map.empty() ? "By task" : "By depth and length",
                            heat_map.empty() ? group_map(*this) : page_figure(heat_map, "map"));
  for (const ModelFailure& failure : failures)
    page.body +=
        fmt::format("<p class=\"error\">{} failed: {}</p>\n", escape(failure.name), escape(failure.error));
  page.command = typed;
  for (const TaskResult& result : results) {
    Json facts = result.head;
    facts.erase("schema");
    page.provenance.emplace_back(results.size() == 1 ? "" : result.name, std::move(facts));
  }
  page.version = BLOCKGTQ_VERSION;
  page.data = json(failures);
  return page_html(page);
}

}  // namespace blockgtq
