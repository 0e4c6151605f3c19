#include "hf/byte_level.h"

#include <array>

#include "hf/utf8.h"

namespace blockgtq {

namespace {

constexpr char32_t kFirstSubstitute = 0x100;

constexpr bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> char_of{};
  std::array<int, 0x144> byte_of{};

  constexpr Alphabet() {
    for (int& b : byte_of) b = -1;
    char32_t next = kFirstSubstitute;
    for (int b = 0; b < 256; ++b) {
      char_of[size_t(b)] = is_printable(b) ? char32_t(b) : next++;
      byte_of[char_of[size_t(b)]] = b;
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

char32_t byte_to_char(unsigned char byte) {
  return kAlphabet.char_of[byte];
}

int char_to_byte(char32_t c) {
  return c < kAlphabet.byte_of.size() ? kAlphabet.byte_of[c] : -1;
}

void append_byte_level(std::string& out, std::string_view bytes) {
  for (const char b : bytes) append_utf8(out, byte_to_char(static_cast<unsigned char>(b)));
}

void append_bytes(std::string& out, std::string_view token) {
  const size_t before = out.size();
  for (size_t i = 0; i < token.size();) {
    const Utf8Char c = decode_utf8(token.data() + i);
    const int byte = char_to_byte(c.value);
    if (byte < 0) {
      out.resize(before);
      out += token;
      return;
    }
    out += char(byte);
    i += size_t(c.length);
  }
}

}  // namespace blockgtq
