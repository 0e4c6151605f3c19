#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace blockgtq {

// Texts as Python's str treats them, because the published scorers are written in Python: code points,
// Unicode
// white space, digits and letters.

/// The text with U+FFFD in place of every byte that is not UTF-8.
std::string valid_utf8(std::string_view text);

/// The code points of the text. Bytes that are not UTF-8 are treated as in valid_utf8().
std::u32string code_points(std::string_view text);

/// str.lower(), including a final sigma, and the dotted capital I as two code points.
std::u32string lower(std::u32string_view text);

/// str.split(): the words between white space.
std::vector<std::u32string> words(std::u32string_view text);

/// str.split(separator), with empty parts.
std::vector<std::u32string> parts(std::u32string_view text, char32_t separator);

bool is_space(char32_t c);        // str.isspace()
bool is_digit(char32_t c);        // \d of re
bool is_word(char32_t c);         // \w of re
bool is_punctuation(char32_t c);  // of string.punctuation: ASCII alone

/// What re.findall(r"\d+") gives.
std::vector<std::u32string> numbers(std::u32string_view text);

}  // namespace blockgtq
