#include "report/svg.h"

#include <fmt/format.h>

#include "report/chart.h"
#include "report/theme.h"

namespace blockgtq {
namespace {

/// Length of the valid UTF-8 sequence at the start of `s`, 0 where there is none (by RFC 3629: overlong forms
/// and surrogates are invalid).
size_t utf8_length(std::string_view s) {
  const unsigned char a = s[0];
  if (a < 0x80) return 1;
  const size_t length = a >= 0xc2 && a < 0xe0 ? 2 : a >= 0xe0 && a < 0xf0 ? 3 : a >= 0xf0 && a < 0xf5 ? 4 : 0;
  if (length == 0 || s.size() < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((s[i] & 0xc0) != 0x80) return 0;
  const unsigned char b = s[1];
  if ((a == 0xe0 && b < 0xa0) || (a == 0xed && b > 0x9f) || (a == 0xf0 && b < 0x90) ||
      (a == 0xf4 && b > 0x8f))
    return 0;
  return length;
}

}  // namespace

// What XML 1.0 cannot hold even escaped (control characters, invalid UTF-8) becomes U+FFFD.
std::string escape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(std::string_view(text).substr(i));
    const char c = text[i];
    if (length == 0 || ((unsigned char)c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) {
      out += "\xef\xbf\xbd";
      i += 1;
      continue;
    }
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out.append(text, i, length);
    }
    i += length;
  }
  return out;
}

std::string px(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string svg_begin(double width, double height, const std::string& label, int n_series) {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "class=\"bq\" "
      "role=\"img\" aria-label=\"{2}\">\n{3}<rect class=\"bq-bg\" width=\"{0}\" height=\"{1}\" rx=\"6\"/>\n",
      px(width), px(height), escape(label), svg_style(n_series));
}

std::string svg_text(double x, double y, std::string_view cls, std::string_view anchor,
                     const std::string& text) {
  return fmt::format("<text x=\"{}\" y=\"{}\" class=\"{}\"{}>{}</text>\n", px(x), px(y), cls,
                     anchor == "start" ? "" : fmt::format(" text-anchor=\"{}\"", anchor), escape(text));
}

double text_width(const std::string& text, double font_size) {
  size_t points = 0;
  for (unsigned char c : text) points += (c & 0xc0) != 0x80;
  return 0.57 * font_size * double(points);
}

}  // namespace blockgtq
