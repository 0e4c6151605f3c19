#include <algorithm>

#include "base/error.h"
#include "catch.h"
#include "decode.h"
#include "markup.h"
#include "report/map_export.h"
#include "samples.h"

using namespace blockgtq;

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

/// Columns of a line: ANSI sequences take none, a UTF-8 character one.
size_t columns(const std::string& line) {
  size_t n = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\x1b')
      i = line.find('m', i);
    else
      n += (line[i] & 0xc0) != 0x80;
  }
  return n;
}

}  // namespace

TEST_CASE("the PNG shows every cell in its bit width's colour") {
  for (auto [n_layers, n_heads, head_dim, rotary_dim] :
       {std::array{3, 2, 24, 16}, {1, 1, 2, 2}, {80, 8, 128, 128}, {2, 1, 512, 512}}) {
    const BitMap map = sample_map(n_layers, n_heads, head_dim, rotary_dim);
    const Decoded image = decode_png(map_png(map, map.budgets[0]));
    const int n_blocks = head_dim / 2;
    CHECK(image.width >= 4 * n_blocks);
    CHECK(image.height >= 4 * n_layers * n_heads);
    // Reading the picture: cells are the runs between the white gaps, in order.
    const int cell = std::clamp(1024 / n_blocks, 4, 16),
              high = std::clamp(1024 / (n_layers * n_heads), 4, 16);
    const int gap = n_heads == 1 ? 1 : 3;
    bool equal = true;
    for (int row = 0; row < n_layers * n_heads; ++row)
      for (int b = 0; b < n_blocks; ++b) {
        const int x = 4 + b * cell + (2 * b >= rotary_dim && rotary_dim < head_dim ? 3 : 0),
                  y = 4 + row * high + row / n_heads * gap;
        const Rgb want = bits_color(map.budgets[0].bits[row * n_blocks + b]);
        equal &= image.pixels[size_t(y) * image.width + x] == want;
        equal &= image.pixels[size_t(y + high - 1) * image.width + x + cell - 1] == want;
      }
    CHECK(equal);
    CHECK(image.pixels[0] == Rgb{255, 255, 255});
    CHECK(map_png(map, map.budgets[0]) == map_png(map, map.budgets[0]));
  }
}

TEST_CASE("a map too large for a picture is refused by name") {
  // 4 x 4 pixels a cell and gaps: 1024 layers of 16 heads at D = 512 are 69 million pixels, of 15 heads
  // 65; 67.1 are allowed
  const BitMap fits = sample_map(1024, 15, 512, 512), large = sample_map(1024, 16, 512, 512);
  CHECK_NOTHROW(map_png(fits, fits.budgets[0]));
  CHECK_THROWS_WITH(map_png(large, large.budgets[0]), ContainsSubstring("too large for a PNG"));
  // 2^18 cells
  const BitMap svg_fits = sample_map(1024, 1, 512, 512), svg_large = sample_map(1025, 1, 512, 512);
  CHECK_NOTHROW(map_svg(svg_fits, svg_fits.budgets[0]));
  CHECK_THROWS_AS(map_svg(svg_large, svg_large.budgets[0]), Error);
}

TEST_CASE("the SVG heat map has a tooltip on every cell, axes and legend") {
  BitMap map = sample_map(3, 2, 24, 16);
  map.method = kNasty;
  const std::string svg = map_svg(map, map.budgets[0]);
  std::string text;
  CHECK(markup_error(svg, &text) == "");
  CHECK(count(svg, "<title>") == 3 * 2 * 12);
  CHECK_THAT(
      svg,
      ContainsSubstring(
          "<title>layer 0, KV head 0, block 0: 1 bit\ncoordinates 0 and 1, frequency 1\nenergy 1</title>"));
  CHECK_THAT(svg, ContainsSubstring("coordinates 16 and 20, static"));
  CHECK_THAT(text, ContainsSubstring("static from 8"));
  CHECK_THAT(text, ContainsSubstring("2 KV heads"));
  CHECK(svg.find(kNasty) == std::string::npos);
  CHECK(svg == map_svg(map, map.budgets[0]));
}

TEST_CASE("digits on a terminal: a line per head, a column per block") {
  BitMap map = sample_map(2, 2, 16, 16);
  map.budgets[0].bits = {1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 1, 1, 1, 1,
                         2, 2, 2, 2, 3, 3, 3, 3, 1, 1, 2, 2, 5, 5, 6, 6};
  CHECK(map_terminal(map, map.budgets[0], 80, false) ==
        "0.0 12345678\n0.1 88881111\n1.0 22223333\n1.1 11225566\nblocks 0-7  digits: bits\n");
}

TEST_CASE("a narrow terminal shows means of neighbours") {
  BitMap map = sample_map(1, 1, 48, 48);  // 24 blocks in 16 - 4 columns: two each
  std::vector<uint8_t>& bits = map.budgets[0].bits;
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = uint8_t(1 + i / 4);
  bits[1] = 4;  // (1 + 4) / 2 = 2.5, rounded up
  const std::vector<std::string> lines = lines_of(map_terminal(map, map.budgets[0], 16, false));
  CHECK(lines[0] == "0.0 312233445566");
  CHECK_THAT(map_terminal(map, map.budgets[0], 80, false), !ContainsSubstring("means"));
  CHECK_THAT(map_terminal(map, map.budgets[0], 16, false), ContainsSubstring("means"));
}

TEST_CASE("two rows a line in colour, never wider than asked") {
  for (int n_heads : {1, 2, 3})
    for (int width : {16, 17, 40, 68, 69, 200}) {
      const BitMap map = sample_map(12, n_heads, 128, 128);
      for (bool color : {false, true}) {
        const std::string text = map_terminal(map, map.budgets[0], width, color);
        for (const std::string& line : lines_of(text)) CHECK(columns(line) <= size_t(width));
        CHECK((text.find('\x1b') != std::string::npos) == color);
      }
      const std::vector<std::string> lines = lines_of(map_terminal(map, map.budgets[0], width, true));
      const size_t rows = std::count_if(
          lines.begin(), lines.end(), [](const std::string& l) { return l.find("▀") != std::string::npos; });
      CHECK(rows == (n_heads == 1 ? 6 : n_heads == 2 ? 12 : 24));  // three heads: a line and a half per layer
    }
  BitMap map = sample_map(1, 2, 4, 4);
  map.budgets[0].bits = {1, 1, 8, 8};
  CHECK(lines_of(map_terminal(map, map.budgets[0], 40, true))[0] ==
        "0 \x1b[38;2;56;52;143m\x1b[48;2;255;231;90m▀▀\x1b[0m");
  CHECK(map_terminal(map, map.budgets[0], -5, false) == map_terminal(map, map.budgets[0], 16, false));
}
