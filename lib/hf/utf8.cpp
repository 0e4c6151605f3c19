#include "hf/utf8.h"

#include <cstdint>
#include <cstring>

namespace blockgtq {

namespace {

/// Length of the well-formed character at p, of which `left` bytes exist; 0 where there is none.
int character_length(const unsigned char* p, size_t left) {
  const auto continues = [&](size_t i) { return i < left && (p[i] & 0xC0) == 0x80; };
  const unsigned char b = p[0];
  if (b < 0x80) return 1;
  if (b < 0xC2) return 0;  // a continuation byte, or an overlong form of ASCII
  if (b < 0xE0) return continues(1) ? 2 : 0;
  if (b < 0xF0) {
    if (!continues(1) || !continues(2)) return 0;
    if (b == 0xE0 && p[1] < 0xA0) return 0;  // overlong
    if (b == 0xED && p[1] > 0x9F) return 0;  // surrogate
    return 3;
  }
  if (b > 0xF4 || !continues(1) || !continues(2) || !continues(3)) return 0;
  if (b == 0xF0 && p[1] < 0x90) return 0;  // overlong
  if (b == 0xF4 && p[1] > 0x8F) return 0;  // past U+10FFFF
  return 4;
}

}  // namespace

size_t find_invalid_utf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    uint64_t word;
    if (i + sizeof word <= text.size()) {
      std::memcpy(&word, p + i, sizeof word);
      if ((word & 0x8080808080808080u) == 0) {
        i += sizeof word;
        continue;
      }
    }
    const int length = character_length(p + i, text.size() - i);
    if (length == 0) return i;
    i += size_t(length);
  }
  return text.size();
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += char(0xC0 | c >> 6);
    out += char(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += char(0xE0 | c >> 12);
    out += char(0x80 | (c >> 6 & 0x3F));
    out += char(0x80 | (c & 0x3F));
  } else {
    out += char(0xF0 | c >> 18);
    out += char(0x80 | (c >> 12 & 0x3F));
    out += char(0x80 | (c >> 6 & 0x3F));
    out += char(0x80 | (c & 0x3F));
  }
}

std::string replace_all(std::string_view text, std::string_view what, std::string_view content) {
  std::string out;
  size_t done = 0;
  for (size_t at; (at = text.find(what, done)) != text.npos; done = at + what.size())
    out.append(text.substr(done, at - done)).append(content);
  out += text.substr(done);
  return out;
}

}  // namespace blockgtq
