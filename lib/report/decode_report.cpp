#include "report/decode_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "report/page.h"

namespace blockgtq {
namespace {

std::string title(const Json& document) {
  return fmt::format("A decoding step of {} on {}", document.at("model").get<std::string>(),
                     document.at("device").get<std::string>());
}

/// The memory that caches take.
Chart memory_chart(const Json& document) {
  Chart chart;
  chart.title = "Memory of the cache, all sequences";
  chart.x_title = "context (positions)";
  chart.y_title = "GiB, logarithmic";
  chart.log_x = chart.log_y = true;
  for (const Json& row : document.at("rows")) {
    const std::string name =
        fmt::format("{} batch {}", row.at("kv").get<std::string>(), row.at("batch").get<int64_t>());
    if (chart.series.empty() || chart.series.back().name != name) chart.series.push_back({name, {}});
    chart.series.back().x.push_back(row.at("context").get<double>());
    chart.series.back().y.push_back(row.at("cache_bytes").get<double>() / double(1 << 30));
  }
  return chart;
}

}  // namespace

Chart decode_chart(const Json& document) {
  Chart chart;
  chart.title = title(document);
  chart.x_title = "context (positions)";
  chart.y_title = "milliseconds per step";
  chart.log_x = chart.log_y = true;
  for (const Json& row : document.at("rows")) {
    const std::string name =
        fmt::format("{} batch {}", row.at("kv").get<std::string>(), row.at("batch").get<int64_t>());
    if (chart.series.size() < 2 || chart.series.end()[-2].name != name) {
      const int color = int(chart.series.size() / 2);
      chart.series.push_back({name, {}, color});
      chart.series.push_back({name + ", bytes / copy rate", {}, color, 1});
    }
    Series &times = chart.series.end()[-2], &floor = chart.series.back();
    for (Series* series : {&times, &floor}) series->x.push_back(row.at("context").get<double>());
    times.y.push_back(row.at("milliseconds").get<double>());
    floor.y.push_back(row.at("floor_milliseconds").get<double>());
  }
  return chart;
}

std::string decode_html(const Json& document, const Table& table, const std::string& command,
                        const std::string& version) {
  Page page;
  page.title = title(document);
  page.lead =
      "Medians over steps beside the floor: the time that the bytes a step reads take at the rate of a copy.";
  Chart times = decode_chart(document);
  times.names_at_ends = true;
  page.body = page_section(
      "Steps",
      table.html("Steps") + page_figure(line_chart(times)) +
          "<p class=\"note\">Longest: the context that the memory asked about holds. Peak: all memory that "
          "the run took.</p>\n");
  page.body += page_section(
      "Memory", "<div class=\"plots\">\n" + page_chart(line_chart(memory_chart(document))) + "</div>\n");
  Json facts = document;
  facts.erase("rows");
  page.provenance = {{"", facts}};
  page.command = command;
  page.version = version;
  page.data = document;
  return page_html(page);
}

}  // namespace blockgtq
