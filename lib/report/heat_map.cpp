#include "report/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "report/chart.h"
#include "report/image.h"
#include "report/svg.h"

namespace blockgtq {
namespace {

constexpr double kCellWidth = 46, kCellHeight = 22, kLeast = 64, kTop = 84, kGap = 30;
constexpr size_t kMapsPerRow = 4;
constexpr double kMostWidth = 1100;

/// Where one map is drawn.
struct Place {
  double x, y;
};

std::string cell(const HeatMaps& maps, const HeatMaps::Map& map, size_t row, size_t column, const Place& at) {
  const double value = map.values[row][column];
  if (std::isnan(value)) return "";
  const double x = at.x + kCellWidth * double(column), y = at.y + kCellHeight * double(row);
  const std::string text = fmt::format("{:.0f}", 100 * value);
  return fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"><title>{}\n{} {}, {} {}: {:.1f} "
      "%</title></rect>\n"
      "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{}\">{}</text>\n",
      px(x), px(y), px(kCellWidth - 1), px(kCellHeight - 1), hex(share_color(value)), escape(map.name),
      escape(maps.x_title), escape(maps.columns[column]), escape(maps.y_title), escape(maps.rows[row]),
      100 * value, px(x + kCellWidth / 2), px(y + kCellHeight / 2 + 4), value < 0.25 ? "#ffffff" : "#1a1f26",
      text);
}

std::string one_map(const HeatMaps& maps, const HeatMaps::Map& map, const Place& at) {
  check(map.values.size() == maps.rows.size(), "a heat map and its rows differ");
  std::string out = svg_text(at.x, at.y - 10, "bq-ink", "start", map.name);
  for (size_t r = 0; r < maps.rows.size(); ++r) {
    check(map.values[r].size() == maps.columns.size(), "a heat map and its columns differ");
    out += svg_text(at.x - 8, at.y + kCellHeight * (double(r) + 0.5) + 4, "bq-mut", "end", maps.rows[r]);
    for (size_t c = 0; c < maps.columns.size(); ++c) out += cell(maps, map, r, c, at);
  }
  const double bottom = at.y + kCellHeight * double(maps.rows.size());
  for (size_t c = 0; c < maps.columns.size(); ++c)
    out += svg_text(at.x + kCellWidth * (double(c) + 0.5), bottom + 14, "bq-mut", "middle", maps.columns[c]);
  return out;
}

}  // namespace

std::string heat_map_svg(const HeatMaps& maps) {
  double widest = kCellWidth * double(maps.columns.size());
  for (const HeatMaps::Map& map : maps.maps) widest = std::max(widest, text_width(map.name, 11));
  double left = kLeast;  // of a map, with the names of rows
  for (const std::string& row : maps.rows) left = std::max(left, text_width(row, 11) + 24);
  const double step_x = widest + left, step_y = kCellHeight * double(maps.rows.size()) + 30 + kGap;
  const size_t fits = size_t(std::max(1.0, kMostWidth / step_x));
  const size_t across = std::min(std::min(kMapsPerRow, fits), std::max<size_t>(1, maps.maps.size()));
  const size_t down = (maps.maps.size() + across - 1) / across;
  std::string out =
      svg_begin(std::max(420.0, step_x * double(across) + 16), kTop + step_y * double(down), maps.title, 0);
  out += svg_text(16, 24, "bq-ink bq-h", "start", maps.title);
  out += svg_text(16, 44, "bq-mut", "start",
                  fmt::format("in per cent; down: {}; across: {}", maps.y_title, maps.x_title));
  for (size_t i = 0; i < maps.maps.size(); ++i)
    out +=
        one_map(maps, maps.maps[i], {left + step_x * double(i % across), kTop + step_y * double(i / across)});
  return out + "</svg>\n";
}

}  // namespace blockgtq
