#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "report/chart.h"
#include "report/number.h"
#include "report/svg.h"
#include "report/theme.h"
#include "report/ticks.h"

namespace blockgtq {
namespace {

constexpr double kWidth = 400, kPlotTop = 54, kPlotBottom = 212, kLegendTop = 262, kFontSize = 11;

struct Style {
  int color, mark;
};

std::string line_class(const Style& s) {
  static constexpr const char* kDash[] = {"", "6 3", "2 3", "8 3 2 3"};
  const std::string dash = kDash[s.mark % 4];
  return fmt::format("class=\"bq-s{} bq-line\"{}", s.color,
                     dash.empty() ? "" : " stroke-dasharray=\"" + dash + "\"");
}

/// A mark at (x, y): circle, square, triangle or diamond of half width r.
std::string mark_shape(const Style& s, double x, double y, double r) {
  const std::string cls = fmt::format("class=\"bq-s{}\"", s.color);
  if (s.mark % 4 == 0)
    return fmt::format("<circle {} cx=\"{}\" cy=\"{}\" r=\"{}\"/>", cls, px(x), px(y), px(r));
  const char* path = s.mark % 4 == 1   ? "M{0} {2}H{1}V{3}H{0}Z"
                     : s.mark % 4 == 2 ? "M{4} {2}L{1} {3}H{0}Z"
                                       : "M{4} {2}L{1} {5}L{4} {3}L{0} {5}Z";
  return fmt::format(
      "<path {} d=\"{}\"/>", cls,
      fmt::format(fmt::runtime(path), px(x - r), px(x + r), px(y - r), px(y + r), px(x), px(y)));
}

std::string axes(const Chart& chart, const Axis& x, const Axis& y) {
  std::string out;
  for (double t : y.ticks) {
    out += fmt::format("<line class=\"bq-grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\"/>\n", px(x.start),
                       px(x.end), px(y.at(t)));
    out += svg_text(x.start - 7, y.at(t) + 4, "bq-mut", "end", tick_text(t));
  }
  out += fmt::format("<line class=\"bq-axis\" x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\"/>\n", px(x.start),
                     px(x.end), px(y.start));
  for (double t : x.ticks) {
    out += fmt::format("<line class=\"bq-axis\" x1=\"{0}\" x2=\"{0}\" y1=\"{1}\" y2=\"{2}\"/>\n", px(x.at(t)),
                       px(y.start), px(y.start + 4));
    out += svg_text(x.at(t), y.start + 17, "bq-mut", "middle", tick_text(t));
  }
  out += svg_text(12, 37, "bq-mut", "start", chart.y_title);
  out += svg_text((x.start + x.end) / 2, y.start + 34, "bq-mut", "middle", chart.x_title);
  return out;
}

std::string draw_series(const Chart& chart, const Series& series, const Style& style, const Axis& x,
                        const Axis& y) {
  auto shown = [](double v, bool log) { return std::isfinite(v) && (!log || v > 0); };
  std::string path, marks;
  bool pen_down = false;
  const double r = chart.x.size() > 24 ? 2 : 3;
  for (size_t i = 0; i < chart.x.size(); ++i) {
    if (!shown(chart.x[i], x.log) || !shown(series.y[i], y.log)) {
      pen_down = false;
      continue;
    }
    const double cx = x.at(chart.x[i]), cy = y.at(series.y[i]);
    path += fmt::format("{}{} {}", pen_down ? "L" : "M", px(cx), px(cy));
    pen_down = true;
    marks += fmt::format(
        "<g><title>{}, {} {}: {}</title><circle class=\"bq-hit\" cx=\"{}\" cy=\"{}\" r=\"8\"/>{}</g>\n",
        escape(series.name), escape(chart.x_title), exact(chart.x[i]), exact(series.y[i]), px(cx), px(cy),
        mark_shape(style, cx, cy, r));
  }
  if (path.empty()) return "";
  return fmt::format("<path {} d=\"{}\"/>\n{}", line_class(style), path, marks);
}

/// The legend's lines of entries, and the height they take.
std::string legend(const Chart& chart, const std::vector<Style>& styles, double& height) {
  std::string out;
  // columns of one width, so that entries of several lines stand below each other
  double entry = 0;
  for (const Series& s : chart.series) entry = std::max(entry, 46 + text_width(s.name, kFontSize));
  const int columns = std::max(1, int((kWidth - 24) / std::max(entry, 1.0)));
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const double x = 12 + entry * double(i % columns), y = kLegendTop + 16 * double(i / columns);
    out += fmt::format("<path {} d=\"M{} {}h24\"/>{}\n", line_class(styles[i]), px(x), px(y),
                       mark_shape(styles[i], x + 12, y, 3));
    out += svg_text(x + 30, y + 4, "bq-ink", "start", chart.series[i].name);
  }
  height = 16 * double((chart.series.size() + columns - 1) / columns);
  return out;
}

}  // namespace

std::string line_chart(const Chart& chart) {
  const int n_colors = int(kLight.series.size());
  std::vector<Style> styles;
  std::vector<double> values;
  for (const Series& s : chart.series) {
    check(s.y.size() == chart.x.size(), "a series has another number of points than its chart");
    styles.push_back({(s.color >= 0 ? s.color : int(styles.size())) % n_colors, s.mark});
    std::copy(s.y.begin(), s.y.end(), std::back_inserter(values));
  }
  Axis x = make_axis(chart.x, chart.log_x, false, 8), y = make_axis(values, chart.log_y, true, 5);
  double label_width = 0;
  for (double t : y.ticks) label_width = std::max(label_width, text_width(tick_text(t), kFontSize));
  x.start = 12 + label_width + 7;
  x.end = kWidth - 18;
  y.start = kPlotBottom;
  y.end = kPlotTop;

  double legend_height = 0;
  const std::string entries = legend(chart, styles, legend_height);
  int n_used = 0;
  for (const Style& s : styles) n_used = std::max(n_used, s.color + 1);
  std::string out = svg_begin(kWidth, kLegendTop + legend_height, chart.title, n_used);
  out += svg_text(12, 20, "bq-ink bq-h", "start", chart.title);
  out += axes(chart, x, y);
  const bool any = std::any_of(values.begin(), values.end(),
                               [&](double v) { return std::isfinite(v) && (!chart.log_y || v > 0); });
  if (!any) out += svg_text((x.start + x.end) / 2, (y.start + y.end) / 2, "bq-mut", "middle", "no data");
  for (size_t i = 0; i < chart.series.size(); ++i)
    out += draw_series(chart, chart.series[i], styles[i], x, y);
  return out + entries + "</svg>\n";
}

}  // namespace blockgtq
