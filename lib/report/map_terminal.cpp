#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "report/image.h"
#include "report/map_export.h"

namespace blockgtq {
namespace {

constexpr int kMinWidth = 16;
constexpr const char* kReset = "\x1b[0m";

using Row = std::vector<int>;  // (columns) of bit widths

/// The bits of one head in n columns: the rounded mean where a column holds several blocks.
Row columns(std::span<const uint8_t> bits, int n) {
  Row row(n);
  for (int c = 0; c < n; ++c) {
    const size_t first = c * bits.size() / n, last = (c + 1) * bits.size() / n;
    int sum = 0;
    for (size_t b = first; b < last; ++b) sum += bits[b];
    const int count = int(last - first);
    row[c] = (2 * sum + count) / (2 * count);
  }
  return row;
}

std::string foreground(int bits) {
  const Rgb c = bits_color(bits);
  return fmt::format("\x1b[38;2;{};{};{}m", c[0], c[1], c[2]);
}

std::string background(int bits) {
  const Rgb c = bits_color(bits);
  return fmt::format("\x1b[48;2;{};{};{}m", c[0], c[1], c[2]);
}

/// Two rows in one line of upper half blocks; `below` may be null. A colour is set only where it changes.
std::string colored_line(const Row& above, const Row* below) {
  std::string line;
  for (size_t c = 0; c < above.size(); ++c) {
    if (c == 0 || above[c] != above[c - 1]) line += foreground(above[c]);
    if (below && (c == 0 || (*below)[c] != (*below)[c - 1])) line += background((*below)[c]);
    line += "▀";
  }
  return line + kReset;
}

std::string digit_line(const Row& row) {
  std::string line;
  for (int bits : row) line += char('0' + bits);
  return line;
}

/// Words in lines of at most `width` columns; columns[i] is what words[i] takes.
std::string wrapped(const std::vector<std::string>& words, const std::vector<int>& columns, int width) {
  std::string out;
  int used = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    if (used > 0 && used + 2 + columns[i] > width) {
      out += "\n";
      used = 0;
    }
    if (used > 0) out += "  ";
    used += (used > 0 ? 2 : 0) + columns[i];
    out += words[i];
  }
  return out + "\n";
}

std::string legend(const Budget& budget, int n_blocks, int n_columns, int width, bool color) {
  std::vector<std::string> words;
  std::vector<int> sizes;
  auto add = [&](std::string word, int size) {
    words.push_back(std::move(word));
    sizes.push_back(size);
  };
  const std::string range = fmt::format("blocks 0-{}", n_blocks - 1);
  add(range, int(range.size()));
  if (n_columns < n_blocks) add("means", 5);
  if (!color) {
    add("digits: bits", 12);
    return wrapped(words, sizes, width);
  }
  add("bits", 4);
  const auto [least, most] = std::minmax_element(budget.bits.begin(), budget.bits.end());
  for (int b = *least; b <= *most; ++b) add(fmt::format("{}█{} {}", foreground(b), kReset, b), 3);
  return wrapped(words, sizes, width);
}

}  // namespace

std::string map_terminal(const BitMap& map, const Budget& budget, int width, bool color) {
  width = std::max(width, kMinWidth);  // a narrower map would show nothing
  const int n_layers = map.shape.n_layers, n_heads = map.shape.n_kv_heads, n_blocks = map.n_blocks();
  check(n_layers > 0 && n_heads > 0 && n_blocks > 0 &&
            budget.bits.size() == size_t(n_layers) * n_heads * n_blocks,
        "a bit map's arrays and its shape differ");
  // Labels are "layer" on a line of two heads, and "layer.head" on a line of digits.
  auto label = [&](int l, int h) { return color ? std::to_string(l) : fmt::format("{}.{}", l, h); };
  const int label_width = int(label(n_layers - 1, n_heads - 1).size());
  const int n_columns = std::min(n_blocks, width - label_width - 1);

  struct Line {
    std::string label;
    Row row;
  };
  std::vector<Line> lines;  // a line of two heads spans two layers only where each layer has one head
  for (int l = 0; l < n_layers; ++l)
    for (int h = 0; h < n_heads; ++h) {
      lines.push_back({h == 0 || !color ? label(l, h) : "", columns(map.head_bits(budget, l, h), n_columns)});
      if (color && n_heads > 1 && n_heads % 2 == 1 && h == n_heads - 1) lines.push_back({"", {}});
    }
  std::string out;
  const size_t step = color ? 2 : 1;
  for (size_t i = 0; i < lines.size(); i += step) {
    out += fmt::format("{:>{}} ", lines[i].label, label_width);
    const bool has_below = i + 1 < lines.size() && !lines[i + 1].row.empty();
    out += color ? colored_line(lines[i].row, has_below ? &lines[i + 1].row : nullptr)
                 : digit_line(lines[i].row);
    out += "\n";
  }
  return out + legend(budget, n_blocks, n_columns, width, color);
}

}  // namespace blockgtq
