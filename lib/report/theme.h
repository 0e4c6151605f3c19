#pragma once
#include <array>
#include <string>
#include <string_view>

namespace blockgtq {

/// The one palette of every chart and page, once for light and once for dark surroundings.
struct Theme {
  std::string_view page, surface, ink, muted, rule, good, bad, bar;
  std::array<std::string_view, 8> series;  // the first is the neutral of a baseline
};
extern const Theme kLight, kDark;
extern const std::string_view kFont;

/// <style> of an SVG that draws `n_series` series (classes bq-sN) beside the common classes bq-bg, -ink,
/// -mut, -grid, -axis.
std::string svg_style(int n_series);

/// The text of the page's style sheet, with the rules of all charts.
std::string page_style();

}  // namespace blockgtq
