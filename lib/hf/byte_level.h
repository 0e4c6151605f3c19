#pragma once
#include <string>
#include <string_view>

namespace blockgtq {

/// GPT-2's alphabet, which writes every byte as one printable character. Bytes that are printable in Latin-1
/// stand for themselves. The other 68 are U+0100, U+0101, ... in order (a space is U+0120).
char32_t byte_to_char(unsigned char byte);
int char_to_byte(char32_t c);  // -1 when c stands for no byte

/// Appends the characters of these bytes, as UTF-8.
void append_byte_level(std::string& out, std::string_view bytes);

/// Appends the bytes that a token of this alphabet stands for. A token with any other character is appended
/// unchanged.
void append_bytes(std::string& out, std::string_view token);

}  // namespace blockgtq
