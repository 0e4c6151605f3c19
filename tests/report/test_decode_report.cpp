#include "report/decode_report.h"

#include <nlohmann/json.hpp>

#include "catch.h"
#include "markup.h"
#include "samples.h"

using namespace blockgtq;

namespace {

Json sample_document() {
  Json rows = Json::array();
  for (const char* kv : {"fp16", "K3V3"})
    for (const int context : {4096, 32768})
      rows.push_back({{"kv", kv},
                      {"batch", 1},
                      {"context", context},
                      {"milliseconds", context / 1024.0},
                      {"floor_milliseconds", context / 2048.0},
                      {"cache_bytes", int64_t(context) << 16}});
  return {{"schema", "blockgtq.bench-decode/1"}, {"device", "a GPU"}, {"model", kNasty}, {"rows", rows}};
}

}  // namespace

TEST_CASE("bench decode: a line per cache beside its floor") {
  const Chart chart = decode_chart(sample_document());
  REQUIRE(chart.series.size() == 4);
  CHECK(chart.series[0].name == "fp16 batch 1");
  CHECK(chart.series[1].name == "fp16 batch 1, bytes / copy rate");
  CHECK(chart.series[0].color == chart.series[1].color);
  CHECK(chart.series[2].x == std::vector<double>{4096, 32768});
  CHECK(chart.series[2].y == std::vector<double>{4, 32});
  CHECK(chart.series[3].y == std::vector<double>{2, 16});
}

TEST_CASE("bench decode: the page") {
  Table table({"kv", "ms"});
  table.row({"fp16", "4.000"});
  std::string text;
  const std::string html = decode_html(sample_document(), table, "blockgtq bench decode", "0.1.0");
  CHECK(markup_error(html, &text) == "");
  CHECK(html.find(kNasty) == std::string::npos);
  CHECK(count(html, "<svg ") == 2);
  CHECK_THAT(text, ContainsSubstring("4.000") && ContainsSubstring("a GPU"));
}
