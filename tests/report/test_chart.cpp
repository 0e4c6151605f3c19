#include <cmath>
#include <limits>
#include <stdexcept>

#include "catch.h"
#include "markup.h"
#include "report/chart.h"
#include "report/image.h"
#include "report/ticks.h"
#include "samples.h"

using namespace blockgtq;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Chart sample_chart() {
  Chart chart;
  chart.title = "Error " + kNasty;
  chart.x_title = "layer";
  chart.y_title = "MAE";
  chart.x = {0, 1, 2, 3};
  chart.series = {{"first", {1, 2, 4, 0.1}}, {kNasty, {3, 2, kNan, 5}}};
  return chart;
}

}  // namespace

TEST_CASE("escape") {
  CHECK(escape("a<&\">'b") == "a&lt;&amp;&quot;&gt;&#39;b");
  CHECK(escape("größe 模型 😀") == "größe 模型 😀");
  CHECK(escape(std::string("a\x01z\x7f", 4)) == "a\xef\xbf\xbdz\xef\xbf\xbd");
  // broken UTF-8: a stray byte, an overlong form, a surrogate, beyond U+10FFFF, cut short
  for (const char* broken : {"\xff", "\xc0", "\x80"}) CHECK(escape(broken) == "\xef\xbf\xbd");
  CHECK(escape("\xe0\x80\x80") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(escape("\xed\xa0\x80") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(escape("\xf4\x90\x80\x80").size() == 12);
  CHECK(escape("x\xe4\xbd") == "x\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(escape("").empty());
}

TEST_CASE("a line chart is one well-formed SVG with a tooltip of the exact value on every mark") {
  const std::string svg = line_chart(sample_chart());
  std::string text;
  CHECK(markup_error(svg, &text) == "");
  CHECK(count(svg, "<title>") == 7);  // eight points, one of them NaN
  CHECK(svg.find("<title>first, layer 3: 0.1</title>") != std::string::npos);
  CHECK(svg.find(escape(kNasty)) != std::string::npos);
  CHECK(svg.find(kNasty) == std::string::npos);
  CHECK(svg.find("prefers-color-scheme:dark") != std::string::npos);
  for (const char* word : {"layer", "MAE", "first"}) CHECK_THAT(text, ContainsSubstring(word));
  for (const char* outside : {"<script", "href", "url(", "@import"})
    CHECK(svg.find(outside) == std::string::npos);
  CHECK(line_chart(sample_chart()) == svg);
}

TEST_CASE("NaN leaves a gap in the line") {
  Chart chart = sample_chart();
  chart.series = {{"a", {1, 2, 3, 4}}};
  // "M" once: in one piece (the legend's sample has its own)
  const size_t whole = count(line_chart(chart), "L");
  chart.series = {{"a", {1, kNan, 3, 4}}};
  CHECK(whole - count(line_chart(chart), "L") == 2);
  chart.series = {{"a", {1, 2, 3, 0}}};
  chart.log_y = true;  // zero has no place on a log axis
  CHECK(count(line_chart(chart), "<title>") == 3);
}

TEST_CASE("charts of nothing, of one point, of equal values") {
  Chart chart;
  CHECK(markup_error(line_chart(chart)) == "");
  CHECK_THAT(line_chart(chart), ContainsSubstring("no data"));
  for (bool log : {false, true})
    for (double y : {0.0, 5.0, -1.0, 1e-320, 1e300, kNan, double(INFINITY)}) {
      chart.x = {7};
      chart.series = {{"a", {y}}};
      chart.log_x = chart.log_y = log;
      const std::string svg = line_chart(chart);
      INFO(y << " " << log);
      CHECK(markup_error(svg) == "");
      CHECK(count(svg, "<title>") == (std::isfinite(y) && (!log || y > 0) ? 1 : 0));
      CHECK(svg.find("nan") == std::string::npos);
      CHECK(svg.find("inf") == std::string::npos);
    }
  chart.series = {{"a", {1, 2}}};
  CHECK_THROWS_AS(line_chart(chart), std::logic_error);
}

TEST_CASE("more series than colours, and a legend of several lines") {
  Chart chart = sample_chart();
  chart.series.clear();
  for (int i = 0; i < 20; ++i)
    chart.series.push_back({"series " + std::to_string(i), {1, 2, 3, 4.0 + i}, -1, i % 5});
  const std::string svg = line_chart(chart);
  CHECK(markup_error(svg) == "");
  CHECK(count(svg, "<title>") == 80);
  CHECK(svg.find("bq-s7") != std::string::npos);
  CHECK(svg.find("bq-s8") == std::string::npos);
}

TEST_CASE("a series with places of its own") {
  Chart chart = sample_chart();
  chart.series[1].x = {10, 20, 30, 40};
  const std::string svg = line_chart(chart);
  CHECK(markup_error(svg) == "");
  CHECK(count(svg, "<title>") == 7);
  CHECK(svg.find("<title>first, layer 1: 2</title>") != std::string::npos);
  CHECK(svg.find(", layer 40: 5</title>") != std::string::npos);
  CHECK_THAT(svg, ContainsSubstring(">40</text>"));  // the axis reaches it
  chart.x = {};
  CHECK_THROWS_AS(line_chart(chart), std::logic_error);  // the first one has no places now
  chart.series.erase(chart.series.begin());
  CHECK(count(line_chart(chart), "<title>") == 3);
  chart.series[0].stroke = Stroke::thin;
  CHECK_THAT(line_chart(chart), ContainsSubstring("stroke-width:.9"));
  chart.series[0].stroke = Stroke::band;  // no marks, so no tooltips
  CHECK(count(line_chart(chart), "<title>") == 0);
  CHECK(line_chart(chart).find("no data") == std::string::npos);
}

TEST_CASE("names at the ends of lines: in the order of the ends, apart, and inside the picture") {
  // Values of the last points, the highest first; all but two lie close together.
  const std::vector<double> ends = {900, 1.04, 1.03, 1.02, 1.01, 1, 0.99, 0.001};
  Chart chart;
  chart.names_at_ends = chart.log_y = true;
  for (const size_t i : {3, 0, 7, 1, 5, 2, 6, 4})
    chart.series.push_back(
        {"line " + std::to_string(i), {1000, ends[i], kNan}, -1, 0, {1, 2.0 + double(i), 99}});
  chart.series.push_back({"nothing", {kNan}, -1, 0, {1}});
  const std::string svg = line_chart(chart);
  std::string text;
  CHECK(markup_error(svg, &text) == "");
  CHECK(text.find("nothing") == std::string::npos);
  const double bottom = std::stod(svg.substr(svg.find(" height=\"") + 9));
  double before = 0;
  for (size_t i = 0; i < ends.size(); ++i) {
    const size_t name = svg.find(">line " + std::to_string(i) + "</text>");
    REQUIRE(name != std::string::npos);
    const double y = std::stod(svg.substr(svg.rfind(" y=\"", name) + 4));
    INFO(i);
    CHECK(y >= before + 14.9);  // lines of 15, coordinates of two decimals
    CHECK(y < bottom);
    before = y;
  }
  chart.series.clear();
  CHECK(markup_error(line_chart(chart)) == "");
  CHECK_THAT(line_chart(chart), ContainsSubstring("no data"));
}

TEST_CASE("the lowest within: in steps, over all series, and whose points it has") {
  Series a{"a", {8, 2}}, b{"b", {4, 3, NAN}};
  a.x = {1, 4};
  b.x = {2, 3, 3.5};
  std::vector<int> n_best;
  const Series band = lowest_within("best", {b, a}, &n_best);
  CHECK(band.x == std::vector<double>{1, 2, 2, 3, 3, 4, 4, 4});
  CHECK(band.y == std::vector<double>{8, 8, 4, 4, 3, 3, 2, 2});
  CHECK(n_best == std::vector<int>{2, 2});
  CHECK(band.stroke == Stroke::band);
  CHECK(lowest_within("none", {}).x.empty());
}

TEST_CASE("axes") {
  const Axis layers = make_axis({0, 1, 2, 3, 4, 5}, false, false, 8);
  CHECK(layers.lo == 0);
  CHECK(layers.hi == 5);
  CHECK(layers.ticks == std::vector<double>{0, 1, 2, 3, 4, 5});
  CHECK(make_axis({0, 1}, false, false, 8).ticks == std::vector<double>{0, 1});  // no half layers
  CHECK(make_axis({0, 79}, false, false, 8).ticks.size() <= 9);

  const Axis error = make_axis({1.3, 4.1}, false, true, 5);
  CHECK(error.lo == 0);
  CHECK(error.hi == 5);
  CHECK(make_axis({-3, 4}, false, true, 5).lo <= -3);

  const Axis log = make_axis({0.02, 30}, true, true, 5);
  CHECK(log.lo < 0.02);
  CHECK(log.hi > 30);
  CHECK(log.ticks == std::vector<double>{0.1, 1, 10});
  Axis at = log;
  at.start = 0;
  at.end = 1;
  CHECK(at.at(at.lo) == Approx(0).margin(1e-12));
  CHECK(at.at(at.hi) == Approx(1));
  CHECK(at.at(std::sqrt(at.lo * at.hi)) == Approx(0.5));
  CHECK(make_axis({2, 2.1}, true, true, 5).ticks.size() >= 2);  // less than one decade

  // a range far below the values' own spacing must end, too
  CHECK(make_axis({1e30, 1e30 * (1 + 1e-15)}, false, false, 5).ticks.size() <= 101);
  CHECK(tick_text(0.30000000000000004) == "0.3");
}

TEST_CASE("a share chart stacks to the whole height") {
  const std::vector<std::vector<double>> shares = {{0.5, 0.25, 0, 0, 0.25, 0, 0, 0},
                                                   {0, 0, 0, 0, 0, 0, 0, 1}};
  const std::string svg = share_chart("Fingerprint " + kNasty, shares);
  CHECK(markup_error(svg) == "");
  CHECK(count(svg, "<title>") == 4);
  CHECK_THAT(svg, ContainsSubstring("<title>layer 0: 50.0 % of blocks at 1 bit</title>"));
  CHECK_THAT(svg, ContainsSubstring("<title>layer 1: 100.0 % of blocks at 8 bits</title>"));
  for (int b = 1; b <= 8; ++b) CHECK_THAT(svg, ContainsSubstring(hex(bits_color(b))));
  CHECK(svg == share_chart("Fingerprint " + kNasty, shares));
  CHECK_THAT(share_chart("empty", {}), ContainsSubstring("no data"));
  CHECK(markup_error(share_chart("empty", {})) == "");
  CHECK_THROWS_AS(share_chart("x", {{1, 0}}), std::logic_error);
  const std::vector<std::vector<double>> many(1024, {0, 0, 1, 0, 0, 0, 0, 0});
  CHECK(count(share_chart("many", many), "<title>") == 1024);
}
