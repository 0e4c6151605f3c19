#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace blockgtq {

// Texts as Python's str has them, which the published scorers are written in: code points, Unicode white
// space, digits and letters.

/// UTF-8 with U+FFFD in the place of every byte that is not part of it.
std::string valid_utf8(std::string_view text);

/// The code points; bytes that are not UTF-8 as in valid_utf8().
std::u32string code_points(std::string_view text);

/// str.lower(): also a final sigma, and the dotted capital I as two code points.
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
