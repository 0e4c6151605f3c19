#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "report/chart.h"
#include "report/image.h"
#include "report/map_export.h"
#include "report/number.h"
#include "report/svg.h"

namespace blockgtq {
namespace {

constexpr int64_t kMaxPngPixels = int64_t(1) << 26;
constexpr int64_t kMaxSvgCells = int64_t(1) << 18;

/// Where the cells of the heat map are: rows are (layer, KV head) with a gap between layers; columns are
/// blocks with a gap before those without RoPE.
struct HeatGrid {
  int n_layers, n_heads, n_blocks, n_rotary;
  int cell_w, cell_h, gap;

  HeatGrid(const BitMap& map, const Budget& budget, int width, int height)
      : n_layers(map.shape.n_layers),
        n_heads(map.shape.n_kv_heads),
        n_blocks(map.n_blocks()),
        n_rotary(int(map.shape.ropes[0].inv_freq.size())) {
    check(n_layers > 0 && n_heads > 0 && n_blocks > 0 &&
              int64_t(budget.bits.size()) == int64_t(n_layers) * n_heads * n_blocks,
          "a bit map's arrays and its shape differ");
    cell_w = std::clamp(width / n_blocks, 4, 16);
    cell_h = std::clamp(height / (n_layers * n_heads), 4, 16);
    gap = n_heads == 1 ? 1 : 3;
  }
  int x(int block) const { return block * cell_w + (block >= n_rotary && has_static() ? 3 : 0); }
  int y(int layer, int head) const { return (layer * n_heads + head) * cell_h + layer * gap; }
  int64_t width() const { return int64_t(x(n_blocks - 1)) + cell_w; }
  int64_t height() const { return int64_t(y(n_layers - 1, n_heads - 1)) + cell_h; }
  int64_t cells() const { return int64_t(n_layers) * n_heads * n_blocks; }
  bool has_static() const { return n_rotary > 0 && n_rotary < n_blocks; }
};

std::string cell(const BitMap& map, const HeatGrid& g, int layer, int head, int block, int bits) {
  const auto [c0, c1] = map.shape.layout.coords(block);
  const std::string rotation =
      block < g.n_rotary ? "frequency " + exact(map.shape.rope(layer).inv_freq[block]) : "static";
  return fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"><title>layer {}, KV head {}, block {}: "
      "{} {}\n"
      "coordinates {} and {}, {}\nenergy {}</title></rect>\n",
      g.x(block), g.y(layer, head), g.cell_w, g.cell_h, hex(bits_color(bits)), layer, head, block, bits,
      bits == 1 ? "bit" : "bits", c0, c1, rotation, exact(map.head_energy(layer, head)[block]));
}

std::string legend(double x, double y) {
  std::string out = svg_text(x, y + 10, "bq-ink", "start", "bits");
  for (int b = 1; b <= 8; ++b) {
    const double left = x + 34 + 38 * (b - 1);
    out += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"12\" rx=\"2\" fill=\"{}\"/>\n",
                       px(left), px(y), hex(bits_color(b)));
    out += svg_text(left + 19, y + 10, "bq-ink", "start", std::to_string(b));
  }
  return out;
}

/// Every how many layers or blocks there is a label, so that labels are `least` pixels apart.
int label_step(double pixels_each, double least) {
  for (int step : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512})
    if (step * pixels_each >= least) return step;
  return 1024;
}

}  // namespace

std::string map_png(const BitMap& map, const Budget& budget) {
  const HeatGrid g(map, budget, 1024, 1024);
  const int margin = 4;
  const int64_t width = g.width() + 2 * margin, height = g.height() + 2 * margin;
  if (width * height > kMaxPngPixels)
    fail_input("bit map: too large for a PNG: {} x {} pixels, at most {} in all (npy and csv have no limit)",
               width, height, kMaxPngPixels);
  std::vector<Rgb> pixels(size_t(width * height), Rgb{255, 255, 255});
  for (int l = 0; l < g.n_layers; ++l)
    for (int h = 0; h < g.n_heads; ++h) {
      const auto bits = map.head_bits(budget, l, h);
      for (int b = 0; b < g.n_blocks; ++b)
        for (int y = 0; y < g.cell_h; ++y)
          std::fill_n(pixels.begin() + (margin + g.y(l, h) + y) * width + margin + g.x(b), g.cell_w,
                      bits_color(bits[b]));
    }
  return encode_png(int(width), int(height), pixels);
}

std::string map_svg(const BitMap& map, const Budget& budget) {
  const HeatGrid g(map, budget, 960, 900);
  if (g.cells() > kMaxSvgCells)
    fail_input("bit map: too large for an SVG: {} cells, at most {} (png shows more)", g.cells(),
               kMaxSvgCells);
  const double left = 66, top = 62, bottom = top + double(g.height());
  const double width = std::max(left + double(g.width()) + 20, 400.0);
  const std::string title =
      fmt::format("Bits per block: {}, {} bits on average", map.method, exact(budget.average_bits));
  std::string out = svg_begin(width, bottom + 78, title, 0);
  out += svg_text(16, 24, "bq-ink bq-h", "start", title);
  out += svg_text(16, 46, "bq-mut", "start",
                  g.n_heads == 1 ? "layer" : fmt::format("layer, {} KV heads each", g.n_heads));

  const double layer_height = double(g.n_heads) * g.cell_h + g.gap;
  const int layer_step = label_step(layer_height, 13);
  for (int l = 0; l < g.n_layers; l += layer_step)
    out += svg_text(left - 8, top + g.y(l, 0) + (layer_height - g.gap) / 2 + 4, "bq-mut", "end",
                    std::to_string(l));
  const int block_step = label_step(g.cell_w, 34);
  for (int b = 0; b < g.n_blocks; b += block_step)
    out += svg_text(left + g.x(b) + g.cell_w / 2.0, bottom + 15, "bq-mut", "middle", std::to_string(b));
  out += svg_text(left, bottom + 34, "bq-mut", "start",
                  g.has_static() ? fmt::format("block: fast to slow rotation, static from {}", g.n_rotary)
                                 : "block, from fast to slow rotation");

  out +=
      fmt::format("<g transform=\"translate({},{})\" shape-rendering=\"crispEdges\">\n", px(left), px(top));
  for (int l = 0; l < g.n_layers; ++l)
    for (int h = 0; h < g.n_heads; ++h) {
      const auto bits = map.head_bits(budget, l, h);
      for (int b = 0; b < g.n_blocks; ++b) out += cell(map, g, l, h, b, bits[b]);
    }
  return out + "</g>\n" + legend(left, bottom + 50) + "</svg>\n";
}

}  // namespace blockgtq
