#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace blockgtq {

/// The offset of the first byte that is not part of well-formed UTF-8 (surrogates, overlong forms and values
/// past U+10FFFF are not); text.size() when there is none.
size_t find_invalid_utf8(std::string_view text);

/// A code point and its length in bytes.
struct Utf8Char {
  char32_t value;
  int length;
};

/// The code point that starts at `p`, in well-formed UTF-8.
inline Utf8Char decode_utf8(const char* p) {
  const auto byte = [p](int i) { return char32_t(static_cast<unsigned char>(p[i])); };
  const char32_t b = byte(0);
  if (b < 0x80) return {b, 1};
  if (b < 0xE0) return {(b & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (b < 0xF0) return {(b & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(b & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

/// The code point that ends before offset `end` > 0, in well-formed UTF-8.
inline Utf8Char decode_utf8_before(std::string_view text, size_t end) {
  size_t start = end - 1;
  while ((static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return decode_utf8(text.data() + start);
}

/// Appends a code point as UTF-8.
void append_utf8(std::string& out, char32_t c);

/// The text with every occurrence of `what` (not empty) replaced by `content`.
std::string replace_all(std::string_view text, std::string_view what, std::string_view content);

}  // namespace blockgtq
