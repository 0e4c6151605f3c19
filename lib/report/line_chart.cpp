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
// Sizes of a chart with names at the ends of its lines.
constexpr double kLargeWidth = 560, kLargeHeight = 400, kNameStep = 15, kNameGap = 40;

struct Style {
  int color, mark;
  Stroke stroke;
};

std::string line_class(const Style& s) {
  static constexpr const char* kDash[] = {"", "6 3", "2 3", "8 3 2 3"};
  const std::string dash = kDash[s.mark % 4];
  return fmt::format("class=\"bq-s{} bq-line\"{}{}", s.color,
                     dash.empty() ? "" : " stroke-dasharray=\"" + dash + "\"",
                     s.stroke == Stroke::band   ? " style=\"stroke-width:5;opacity:.4\""
                     : s.stroke == Stroke::thin ? " style=\"stroke-width:.9;opacity:.75\""
                                                : "");
}

bool shown(double value, const Axis& axis) {
  return std::isfinite(value) && (!axis.log || value > 0);
}

const std::vector<double>& x_of(const Chart& chart, const Series& series) {
  return series.x.empty() ? chart.x : series.x;
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
  const std::vector<double>& xs = x_of(chart, series);
  std::string path, marks;
  bool pen_down = false;
  const double r = xs.size() > 24 || style.stroke == Stroke::thin ? 2 : 3;
  for (size_t i = 0; i < xs.size(); ++i) {
    if (!shown(xs[i], x) || !shown(series.y[i], y)) {
      pen_down = false;
      continue;
    }
    const double cx = x.at(xs[i]), cy = y.at(series.y[i]);
    path += fmt::format("{}{} {}", pen_down ? "L" : "M", px(cx), px(cy));
    pen_down = true;
    if (style.stroke == Stroke::band) continue;
    marks += fmt::format(
        "<g><title>{}, {} {}: {}</title><circle class=\"bq-hit\" cx=\"{}\" cy=\"{}\" r=\"8\"/>{}</g>\n",
        escape(series.name), escape(chart.x_title), exact(xs[i]), exact(series.y[i]), px(cx), px(cy),
        mark_shape(style, cx, cy, r));
  }
  if (path.empty()) return "";
  return fmt::format("<path {} d=\"{}\"/>\n{}", line_class(style), path, marks);
}

/// The legend's lines of entries, and the height they take.
std::string legend(const Chart& chart, const std::vector<Style>& styles, double& height) {
  std::string out;
  // Columns have one width, so that entries of several lines are aligned.
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

/// The heights nearest to the wanted ones (ascending) that are at least a step apart and within top..bottom.
/// They are the least-squares solution; neighbours that would overlap are pooled.
std::vector<double> spread(const std::vector<double>& wanted, double step, double top, double bottom) {
  struct Pool {
    double sum;
    int n;
    double mean() const { return sum / n; }
  };
  std::vector<Pool> pools;
  for (size_t i = 0; i < wanted.size(); ++i) {
    pools.push_back({wanted[i] - step * double(i), 1});
    while (pools.size() > 1 && pools.end()[-2].mean() > pools.back().mean()) {
      pools.end()[-2].sum += pools.back().sum;
      pools.end()[-2].n += pools.back().n;
      pools.pop_back();
    }
  }
  const double room = std::max(top, bottom - step * double(wanted.size() - 1));
  std::vector<double> heights;
  for (const Pool& pool : pools)
    for (int i = 0; i < pool.n; ++i)
      heights.push_back(std::clamp(pool.mean(), top, room) + step * double(heights.size()));
  return heights;
}

/// Writes every line's name to the right of the plot, and joins it to the line's last point by a hairline.
/// Hairlines leave the plot horizontally, so that they do not cross.
std::string end_names(const Chart& chart, const std::vector<Style>& styles, const Axis& x, const Axis& y) {
  struct End {
    size_t series;
    double x, y;
  };
  std::vector<End> ends;
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const std::vector<double>&xs = x_of(chart, chart.series[s]), &ys = chart.series[s].y;
    for (size_t i = xs.size(); i-- > 0;)
      if (shown(xs[i], x) && shown(ys[i], y)) {
        ends.push_back({s, x.at(xs[i]), y.at(ys[i])});
        break;
      }
  }
  std::stable_sort(ends.begin(), ends.end(), [](const End& a, const End& b) { return a.y < b.y; });
  std::vector<double> wanted;
  for (const End& end : ends) wanted.push_back(end.y);
  const std::vector<double> heights = spread(wanted, kNameStep, y.end, y.start);
  std::string hairlines, names;
  for (size_t i = 0; i < ends.size(); ++i) {
    const Style& style = styles[ends[i].series];
    const double name_x = x.end + kNameGap;
    hairlines += fmt::format("<path class=\"bq-grid\" fill=\"none\" d=\"M{} {}H{}L{} {}\"/>\n", px(ends[i].x),
                             px(ends[i].y), px(x.end + 6), px(name_x - 6), px(heights[i]));
    names +=
        style.stroke == Stroke::band
            ? fmt::format("<path {} d=\"M{} {}h14\"/>\n", line_class(style), px(name_x - 4), px(heights[i]))
            : mark_shape(style, name_x + 3, heights[i], style.stroke == Stroke::thin ? 2 : 3) + "\n";
    names += svg_text(name_x + 14, heights[i] + 4, style.stroke == Stroke::thin ? "bq-mut" : "bq-ink",
                      "start", chart.series[ends[i].series].name);
  }
  return hairlines + names;
}

}  // namespace

std::string line_chart(const Chart& chart) {
  const int n_colors = int(kLight.series.size());
  std::vector<Style> styles;
  std::vector<double> places = chart.x, values;
  double name_width = 0;
  for (const Series& s : chart.series) {
    check(s.y.size() == x_of(chart, s).size(), "a series has another number of points than its chart");
    styles.push_back({(s.color >= 0 ? s.color : int(styles.size())) % n_colors, s.mark, s.stroke});
    std::copy(s.x.begin(), s.x.end(), std::back_inserter(places));
    std::copy(s.y.begin(), s.y.end(), std::back_inserter(values));
    name_width = std::max(name_width, text_width(s.name, kFontSize));
  }
  Axis x = make_axis(places, chart.log_x, false, 8), y = make_axis(values, chart.log_y, true, 5);
  double label_width = 0;
  for (double t : y.ticks) label_width = std::max(label_width, text_width(tick_text(t), kFontSize));
  x.start = 12 + label_width + 7;
  x.end = (chart.names_at_ends ? kLargeWidth : kWidth) - 18;
  y.start = chart.names_at_ends ? kPlotTop + std::max(kLargeHeight, kNameStep * double(chart.series.size()))
                                : kPlotBottom;
  y.end = kPlotTop;

  double width = kWidth, height = kLegendTop;
  std::string names;
  if (chart.names_at_ends) {
    width = x.end + kNameGap + 14 + name_width + 12;
    height = y.start + kLegendTop - kPlotBottom - 8;
    names = end_names(chart, styles, x, y);
  } else {
    double legend_height = 0;
    names = legend(chart, styles, legend_height);
    height += legend_height;
  }
  int n_used = 0;
  for (const Style& s : styles) n_used = std::max(n_used, s.color + 1);
  std::string out = svg_begin(width, height, chart.title, n_used);
  out += svg_text(12, 20, "bq-ink bq-h", "start", chart.title);
  out += axes(chart, x, y);
  const bool any = std::any_of(values.begin(), values.end(),
                               [&](double v) { return std::isfinite(v) && (!chart.log_y || v > 0); });
  if (!any) out += svg_text((x.start + x.end) / 2, (y.start + y.end) / 2, "bq-mut", "middle", "no data");
  std::string lines;
  for (size_t i = 0; i < chart.series.size(); ++i)
    lines += draw_series(chart, chart.series[i], styles[i], x, y);
  // Hairlines to names are drawn below the lines that they pass.
  return out + (chart.names_at_ends ? names + lines : lines + names) + "</svg>\n";
}

}  // namespace blockgtq
