#include "report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "report/chart.h"
#include "report/page.h"

namespace blockgtq {
namespace {

using Cells = std::vector<std::string>;

struct Range {
  char32_t first, last;
};

// What a terminal draws in no column (combining marks, joiners), and in two (East Asian wide, pictographs).
constexpr Range kZeroWidth[] = {{0x300, 0x36f}, {0x200b, 0x200f}, {0xfe00, 0xfe0f}};
constexpr Range kWide[] = {{0x1100, 0x115f}, {0x2e80, 0xa4cf},   {0xac00, 0xd7a3},
                           {0xf900, 0xfaff}, {0xfe30, 0xfe6f},   {0xff00, 0xff60},
                           {0xffe0, 0xffe6}, {0x1f300, 0x1faff}, {0x20000, 0x3fffd}};

template <size_t N>
bool in(const Range (&ranges)[N], char32_t c) {
  return std::any_of(ranges, ranges + N, [c](const Range& r) { return c >= r.first && c <= r.last; });
}

/// Columns of a terminal that the text takes; a stray byte counts as one.
size_t display_width(std::string_view text) {
  size_t width = 0;
  for (size_t i = 0; i < text.size();) {
    const unsigned char lead = text[i];
    const size_t length = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    char32_t c = length == 1 ? lead : lead & (0x7f >> length);
    for (size_t j = 1; j < length && i + j < text.size(); ++j) c = c << 6 | (text[i + j] & 0x3f);
    width += in(kZeroWidth, c) ? 0 : in(kWide, c) ? 2 : 1;
    i += length;
  }
  return width;
}

/// The text as one line. Control characters would move the cursor or end the row.
std::string one_line(std::string text) {
  for (char& c : text)
    if ((unsigned char)c < 0x20 || c == 0x7f) c = ' ';
  return text;
}

std::string markdown_text(const std::string& text) {
  std::string out;
  for (char c : one_line(text)) {
    if (std::string_view("\\`*<[|&").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

bool is_numeric(const std::vector<Cells>& rows, size_t column) {
  return std::all_of(rows.begin(), rows.end(), [&](const Cells& row) {
    const std::string& cell = row[column];
    return cell.empty() || (cell[0] >= '0' && cell[0] <= '9') || cell[0] == '-' || cell[0] == '+';
  });
}

std::string padded(const std::string& cell, size_t width, bool right) {
  const std::string fill(width - display_width(cell), ' ');
  return right ? fill + cell : cell + fill;
}

/// At most `width` columns of a text, its end replaced by an ellipsis.
std::string shortened(std::string text, size_t width) {
  if (display_width(text) <= width) return text;
  while (!text.empty() && display_width(text) + 1 > width) {
    while ((text.back() & 0xc0) == 0x80) text.pop_back();  // the bytes behind a character's first
    text.pop_back();
  }
  return text + "…";
}

std::string rule(size_t width) {
  std::string out;
  for (size_t i = 0; i < width; ++i) out += "─";
  return out;
}

std::string csv_line(const Cells& cells) {
  std::string line;
  for (const std::string& cell : cells) {
    if (&cell != &cells.front()) line += ',';
    if (cell.find_first_of(",\"\r\n") == std::string::npos) {
      line += cell;
      continue;
    }
    line += '"';
    for (char c : cell) line.append(c == '"' ? 2 : 1, c);
    line += '"';
  }
  return line + "\r\n";
}

/// Printable cells, and what both renderings with aligned columns need.
struct Grid {
  std::vector<Cells> lines;  // the header first
  std::vector<size_t> width;
  std::vector<bool> right;

  Grid(const Cells& header, const std::vector<Cells>& rows, std::string (*clean)(const std::string&),
       size_t least)
      : width(header.size(), least) {
    lines.push_back(header);
    lines.insert(lines.end(), rows.begin(), rows.end());
    for (Cells& line : lines)
      for (size_t c = 0; c < line.size(); ++c) {
        line[c] = clean(line[c]);
        width[c] = std::max(width[c], display_width(line[c]));
      }
    for (size_t c = 0; c < header.size(); ++c) right.push_back(is_numeric(rows, c));
  }

  /// Cuts cells of the widest columns of text until a line has at most `most` columns, or all are short.
  void cut(size_t most) {
    constexpr size_t kShort = 8;
    size_t line = 2 * (width.size() - 1);
    for (const size_t w : width) line += w;
    while (line > most) {
      size_t widest = width.size();
      for (size_t c = 0; c < width.size(); ++c)
        if (!right[c] && width[c] > kShort && (widest == width.size() || width[c] > width[widest]))
          widest = c;
      if (widest == width.size()) return;
      --width[widest];
      --line;
      for (Cells& cells : lines) cells[widest] = shortened(cells[widest], width[widest]);
    }
  }

  /// The first column and those of [first, last).
  std::string text(size_t first, size_t last) const {
    std::string out;
    for (size_t r = 0; r < lines.size(); ++r) {
      std::string line = padded(lines[r][0], width[0], right[0]);
      for (size_t c = std::max<size_t>(first, 1); c < last; ++c)
        line += "  " + padded(lines[r][c], width[c], right[c]);
      line.erase(line.find_last_not_of(' ') + 1);
      out += line + "\n";
      if (r) continue;
      out += rule(width[0]);
      for (size_t c = std::max<size_t>(first, 1); c < last; ++c) out += "  " + rule(width[c]);
      out += "\n";
    }
    return out;
  }
};

}  // namespace

void Table::row(std::vector<std::string> cells) {
  check(cells.size() == header_.size(), "a table row has another number of cells than the header");
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  return text(0);
}

std::string Table::text(int width) const {
  Grid grid(
      header_, rows_, [](const std::string& s) { return one_line(s); }, 0);
  if (width <= 0) return grid.text(0, header_.size());
  grid.cut(size_t(width));
  std::string out;
  for (size_t first = 1; first < header_.size() || out.empty();) {
    size_t last = first, line = grid.width[0];
    while (last < header_.size() && (last == first || line + 2 + grid.width[last] <= size_t(width)))
      line += 2 + grid.width[last++];
    if (!out.empty()) out += "\n";
    out += grid.text(first, last);
    first = std::max(last, first + 1);
  }
  return out;
}

std::string Table::markdown() const {
  const Grid grid(header_, rows_, markdown_text, 3);
  std::string out;
  for (size_t r = 0; r < grid.lines.size(); ++r) {
    for (size_t c = 0; c < header_.size(); ++c)
      out += (c ? " " : "| ") + padded(grid.lines[r][c], grid.width[c], grid.right[c]) + " |";
    out += "\n";
    if (r) continue;
    for (size_t c = 0; c < header_.size(); ++c)
      out += (c ? " " : "| ") + std::string(grid.width[c] - 1, '-') + (grid.right[c] ? ": |" : "- |");
    out += "\n";
  }
  return out;
}

std::string Table::csv() const {
  std::string out = csv_line(header_);
  for (const Cells& row : rows_) out += csv_line(row);
  return out;
}

std::string Table::html(const std::string& label) const {
  std::vector<bool> right;
  std::string out = "<thead><tr>";
  for (size_t c = 0; c < header_.size(); ++c) {
    right.push_back(is_numeric(rows_, c));
    out += fmt::format("<th scope=\"col\" class=\"{}\">{}</th>", right[c] ? "number" : "text",
                       escape(header_[c]));
  }
  out += "</tr></thead>\n<tbody>\n";
  for (const Cells& row : rows_) {
    out += fmt::format("<tr><th scope=\"row\">{}</th>", escape(row[0]));
    for (size_t c = 1; c < row.size(); ++c)
      out += fmt::format("<td{}>{}</td>", right[c] ? "" : " class=\"text\"", escape(row[c]));
    out += "</tr>\n";
  }
  constexpr size_t kRoomy = 9;  // columns
  return page_table(label, out + "</tbody>\n", header_.size() > kRoomy ? "sort dense" : "sort");
}

}  // namespace blockgtq
