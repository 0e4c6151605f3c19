#pragma once
#include <string>
#include <string_view>

namespace blockgtq {

/// A coordinate with at most two decimals.
std::string px(double value);

/// "<svg ...>", style and background. The size is that of the view box, and scales with the page's own rules.
std::string svg_begin(double width, double height, const std::string& label, int n_series);

/// A text of class `cls` ("bq-mut", "bq-ink bq-h", ...) anchored at "start", "middle" or "end".
std::string svg_text(double x, double y, std::string_view cls, std::string_view anchor,
                     const std::string& text);

/// A rough width of the text in pixels at a font size.
double text_width(const std::string& text, double font_size);

}  // namespace blockgtq
