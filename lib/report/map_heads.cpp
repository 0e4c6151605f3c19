#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "report/chart.h"
#include "report/image.h"
#include "report/map_view.h"
#include "report/number.h"
#include "report/page.h"
#include "report/svg.h"
#include "report/ticks.h"

namespace blockgtq {
namespace {

constexpr double kWidth = 400, kLeft = 44, kRight = kWidth - 14, kTop = 54;
constexpr int kEnergySteps = 32;  // of the colour scale

/// Levels (L, H, B) with the colours that they stand for.
struct LevelMap {
  std::string title;
  std::vector<std::vector<std::vector<int>>> levels;
  std::vector<Rgb> colors;
  std::string legend;  // SVG at y = 0
  int n_rotary = 0;

  int n_layers() const { return int(levels.size()); }
  int n_heads() const { return levels.empty() ? 0 : int(levels[0].size()); }
  int n_blocks() const { return n_heads() == 0 ? 0 : int(levels[0][0].size()); }
};

/// The cells of one head, a path per level: runs of equal cells are one stroke each.
std::string cells(const LevelMap& map, int head) {
  std::map<int, std::string> paths;
  for (int l = 0; l < map.n_layers(); ++l) {
    const std::vector<int>& row = map.levels[size_t(l)][size_t(head)];
    for (size_t b = 0; b < row.size();) {
      size_t end = b;
      while (end < row.size() && row[end] == row[b]) ++end;
      paths[row[b]] += fmt::format("M{} {}.5h{}", b, l, end - b);
      b = end;
    }
  }
  std::string out;
  for (const auto& [level, path] : paths)
    out += fmt::format("<path stroke=\"{}\" d=\"{}\"/>\n", hex(map.colors[size_t(level)]), path);
  return out;
}

std::string draw(const LevelMap& map) {
  const int n_layers = map.n_layers(), n_blocks = map.n_blocks();
  const double cell_w = (kRight - kLeft) / std::max(1, n_blocks),
               cell_h = std::clamp(230.0 / std::max(1, n_layers), 3.0, 18.0);
  const double bottom = kTop + cell_h * n_layers;
  std::string out = svg_begin(kWidth, bottom + 80, map.title, 0);
  out += svg_text(12, 20, "bq-ink bq-h", "start", map.title);
  out += svg_text(12, 42, "bq-mut", "start", "layer");
  auto axis = [](int n, int most) {
    std::vector<double> values;
    for (int i = 0; i < n; ++i) values.push_back(i);
    return make_axis(values, false, false, most).ticks;
  };
  for (const double t : axis(n_layers, std::max(2, int(cell_h * n_layers / 24))))
    out += svg_text(kLeft - 7, kTop + cell_h * (t + 0.5) + 4, "bq-mut", "end", tick_text(t));
  for (const double t : axis(n_blocks, 9))
    out += svg_text(kLeft + cell_w * (t + 0.5), bottom + 16, "bq-mut", "middle", tick_text(t));
  out += svg_text((kLeft + kRight) / 2, bottom + 33, "bq-mut", "middle",
                  map.n_rotary < n_blocks
                      ? fmt::format("block, from fast to slow rotation; static from {}", map.n_rotary)
                      : "block, from fast to slow rotation");
  out +=
      fmt::format("<g transform=\"translate({} {}) scale({:.5f} {:.5f})\" shape-rendering=\"crispEdges\">\n",
                  px(kLeft), px(kTop), cell_w, cell_h);
  for (int h = 0; h < map.n_heads(); ++h)
    out += fmt::format("<g {}>\n{}</g>\n", choice_mark(std::to_string(h), h == 0), cells(map, h));
  out += "</g>\n";
  return out +
         fmt::format("<g transform=\"translate(0 {})\">\n{}</g>\n</svg>\n", px(bottom + 50), map.legend);
}

std::string swatch(double x, double width, Rgb color) {
  return fmt::format(
      "<rect x=\"{}\" y=\"0\" width=\"{}\" height=\"12\" fill=\"{}\" shape-rendering=\"crispEdges\"/>\n",
      px(x), px(width), hex(color));
}

/// Energies on a logarithmic scale from the smallest to the largest of the model.
LevelMap energy_map(const Json& view) {
  LevelMap map;
  map.title = "Energy of blocks, logarithmic, over all heads";
  map.n_rotary = view.at("rotary_blocks").get<int>();
  const auto energy = view.at("energy").get<std::vector<std::vector<std::vector<double>>>>();
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const auto& layer : energy)
    for (const auto& head : layer)
      for (const double e : head)
        if (e > 0) low = std::min(low, e), high = std::max(high, e);
  const double span = high > low ? std::log(high / low) : 1;
  for (const auto& layer : energy) {
    map.levels.emplace_back();
    for (const auto& head : layer) {
      map.levels.back().emplace_back();
      for (const double e : head) {
        const double share = e > 0 ? std::log(e / low) / span : 0;
        map.levels.back().back().push_back(int(std::lround(share * (kEnergySteps - 1))));
      }
    }
  }
  for (int i = 0; i < kEnergySteps; ++i) map.colors.push_back(share_color(i / double(kEnergySteps - 1)));
  const std::string least = high > 0 ? three_digits(low) : "0";
  const double left = kLeft + text_width(least, 11) + 8;
  map.legend = svg_text(kLeft, 10, "bq-ink", "start", least);
  for (int i = 0; i < kEnergySteps; ++i) map.legend += swatch(left + 5 * i, 5.2, map.colors[size_t(i)]);
  map.legend += svg_text(left + 5 * kEnergySteps + 8, 10, "bq-ink", "start", three_digits(high));
  return map;
}

LevelMap bits_map(const Json& budget, int n_rotary) {
  LevelMap map;
  map.title = fmt::format("Bits of blocks, average {}", exact(budget.at("bits").get<double>()));
  map.n_rotary = n_rotary;
  for (const Json& layer : budget.at("layers")) {
    map.levels.emplace_back();
    for (const Json& head : layer) {
      map.levels.back().emplace_back();
      for (const char digit : head.get<std::string>()) map.levels.back().back().push_back(digit - '1');
    }
  }
  map.legend = svg_text(12, 10, "bq-ink", "start", "bits");
  for (int b = 1; b <= 8; ++b) {
    const double x = 44 + 41 * (b - 1);
    map.colors.push_back(bits_color(b));
    map.legend +=
        swatch(x, 14, map.colors.back()) + svg_text(x + 19, 10, "bq-ink", "start", std::to_string(b));
  }
  return map;
}

}  // namespace

std::string map_heads(const Json& view) {
  std::string out = page_chart(draw(energy_map(view)));
  for (const Json& budget : view.at("budgets"))
    out += page_chart(draw(bits_map(budget, view.at("rotary_blocks").get<int>())));
  return page_choice("KV head", "<div class=\"plots\">\n" + out + "</div>\n");
}

}  // namespace blockgtq
