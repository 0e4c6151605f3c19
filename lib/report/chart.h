#pragma once
#include <string>
#include <utility>
#include <vector>

namespace blockgtq {

/// How a series is drawn: marks and a line; both thinner, for the many series behind the few; or a broad pale
/// band without marks.
enum class Stroke { line, thin, band };

/// One named line of a chart.
struct Series {
  std::string name;
  std::vector<double> y;  // (n); NaN leaves a gap, and so does a value <= 0 on a log axis
  int color = -1;         // of the palette (0 is a baseline's neutral); -1: the series' number in the chart
  int mark = 0;  // 0 solid line and circles; 1.. dashes and other marks, to tell lines of one colour apart
  std::vector<double> x = {};  // (n); empty: Chart::x
  Stroke stroke = Stroke::line;
};

/// Self-contained SVG (no script, no font or style from elsewhere), readable in light and dark mode, with
/// axis titles, ticks, a legend, and the exact value as a tooltip (<title>) on every mark.
struct Chart {
  std::string title, x_title, y_title;
  std::vector<double> x;  // (n)
  std::vector<Series> series;
  bool log_x = false, log_y = false;
  bool names_at_ends = false;  // a large chart whose lines are named at their right ends; else a legend
};
std::string line_chart(const Chart& chart);

/// The lowest y that any point of these series (x ascending or not) reaches at no more x, in steps, as a
/// band. n_best, where it is not null: of every series the points that are on it.
Series lowest_within(const std::string& name, const std::vector<Series>& series,
                     std::vector<int>* n_best = nullptr);

/// Stacked shares (sum to 1 per column) of bit widths 1..8 over layers: a model's bit fingerprint.
std::string share_chart(const std::string& title,
                        const std::vector<std::vector<double>>& shares /* (layers, 8) */);

/// XML/HTML text escaping.
std::string escape(const std::string& text);

}  // namespace blockgtq
