#include "base/printable.h"

#include <fmt/format.h>

#include <cstdint>

namespace blockgtq {
namespace {

constexpr size_t kLongest = 8000;

/// The code point with which the text begins, and its length in bytes; 0 bytes where it is not UTF-8.
size_t decode(std::string_view text, uint32_t& code) {
  const auto lead = uint8_t(text[0]);
  const size_t n = lead < 0x80   ? 1
                   : lead < 0xc2 ? 0
                   : lead < 0xe0 ? 2
                   : lead < 0xf0 ? 3
                   : lead < 0xf5 ? 4
                                 : 0;
  if (n == 0 || text.size() < n) return 0;
  code = n == 1 ? lead : lead & (0x7fu >> n);
  for (size_t i = 1; i < n; ++i) {
    if ((uint8_t(text[i]) & 0xc0) != 0x80) return 0;
    code = code << 6 | (uint8_t(text[i]) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return code < kLeast[n] || code > 0x10ffff || surrogate ? 0 : n;
}

/// Whether it ends a line or paragraph, changes the direction of writing or moves the cursor.
bool steers(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

void append(std::string& line, std::string_view text) {
  while (!text.empty()) {
    uint32_t code = 0;
    const size_t n = decode(text, code);
    if (n == 0)
      line += fmt::format("\\x{:02x}", uint8_t(text[0]));
    else if (!steers(code))
      line += text.substr(0, n);
    else if (code == '\n' || code == '\r' || code == '\t')
      line += code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t";
    else
      line += code < 0x80 ? fmt::format("\\x{:02x}", code) : fmt::format("\\u{:04x}", code);
    text.remove_prefix(n == 0 ? 1 : n);
  }
}

}  // namespace

std::string printable(std::string_view text) {
  std::string line;
  if (text.size() <= kLongest) {
    append(line, text);
    return line;
  }
  append(line, text.substr(0, kLongest / 2));
  line += fmt::format(" [{} bytes left out] ", text.size() - kLongest);
  append(line, text.substr(text.size() - kLongest / 2));
  return line;
}

}  // namespace blockgtq
