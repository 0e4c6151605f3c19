#pragma once
#include <algorithm>
#include <cstddef>
#include <iterator>

namespace blockgtq {

/// What the `tokenizers` library knows of single code points, where the Unicode versions of its parts differ
/// from those of PCRE2 and utf8proc. Tables are sorted. tests/hf/make_unicode_tables.py makes them.
struct CodeRange {
  char32_t first, last;
};

/// Code points first..last match as `same_as`, which has the same length in UTF-8 and the general category
/// that Unicode 16.0 gives them. Every PCRE2 from 10.36 on knows `same_as`.
struct CodeReplacement {
  char32_t first, last, same_as;
};

extern const CodeReplacement kReplaced[];
extern const size_t kReplacedCount;
extern const CodeRange kInert[];  // no normalization form changes, moves or composes these
extern const size_t kInertCount;
extern const CodeRange kNumeric[];  // digits and numbers of the Digits pre-tokenizer
extern const size_t kNumericCount;
extern const CodeRange kPunctuation[];  // of the Punctuation pre-tokenizer
extern const size_t kPunctuationCount;
extern const CodeRange kWord[];  // \w of single_word added tokens and of the Whitespace pre-tokenizer
extern const size_t kWordCount;

/// The row of a sorted table that holds c; null when none does.
template <class Row>
const Row* find_row(const Row* rows, size_t count, char32_t c) {
  const Row* row =
      std::upper_bound(rows, rows + count, c, [](char32_t v, const Row& r) { return v < r.first; });
  return row != rows && c <= row[-1].last ? row - 1 : nullptr;
}

/// White_Space of Unicode, the \s of Oniguruma.
inline constexpr CodeRange kSpace[] = {{0x09, 0x0D},     {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
                                       {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
                                       {0x205F, 0x205F}, {0x3000, 0x3000}};

inline bool is_space(char32_t c) {
  return find_row(kSpace, std::size(kSpace), c) != nullptr;
}
inline bool is_numeric(char32_t c) {
  return find_row(kNumeric, kNumericCount, c) != nullptr;
}
inline bool is_punctuation(char32_t c) {
  return find_row(kPunctuation, kPunctuationCount, c) != nullptr;
}
inline bool is_word(char32_t c) {
  return find_row(kWord, kWordCount, c) != nullptr;
}

}  // namespace blockgtq
