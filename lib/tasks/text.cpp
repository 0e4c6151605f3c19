#include "tasks/text.h"

#include <utf8proc.h>

#include "hf/utf8.h"

namespace blockgtq {
namespace {

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(utf8proc_int32_t(c));
}

bool is_letter(char32_t c) {
  const utf8proc_category_t k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool is_cased(char32_t c) {
  const utf8proc_category_t k = category(c);
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

/// Unicode's Case_Ignorable: marks, modifiers, and punctuation inside words.
bool is_case_ignorable(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return std::u32string_view(
                 U"'.:\u00B7\u0387\u055F\u05F4\u2018\u2019\u2024\u2027\uFE13\uFE52\uFE55\uFF07\uFF0E\uFF1A")
                 .find(c) != std::u32string_view::npos;
  }
}

/// Whether a capital sigma at i ends a word.
bool is_final_sigma(std::u32string_view text, size_t i) {
  size_t before = i;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  size_t behind = i + 1;
  while (behind < text.size() && is_case_ignorable(text[behind])) ++behind;
  return behind == text.size() || !is_cased(text[behind]);
}

/// The maximal runs of characters for which `belongs` is true.
template <class Belongs>
std::vector<std::u32string> runs(std::u32string_view text, Belongs belongs) {
  std::vector<std::u32string> all;
  for (size_t i = 0; i < text.size();) {
    size_t end = i;
    while (end < text.size() && belongs(text[end])) ++end;
    if (end > i) all.emplace_back(text.substr(i, end - i));
    i = end + 1;
  }
  return all;
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t valid = find_invalid_utf8(text);
    out += text.substr(0, valid);
    if (valid == text.size()) break;
    append_utf8(out, 0xFFFD);
    text.remove_prefix(valid + 1);
  }
  return out;
}

std::u32string code_points(std::string_view text) {
  const std::string valid = valid_utf8(text);
  std::u32string all;
  for (size_t i = 0; i < valid.size();) {
    const Utf8Char c = decode_utf8(valid.data() + i);
    all += c.value;
    i += size_t(c.length);
  }
  return all;
}

std::u32string lower(std::u32string_view text) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == U'\u0130')
      out += U"i\u0307";
    else if (text[i] == U'\u03A3' && is_final_sigma(text, i))
      out += U'\u03C2';
    else
      out += char32_t(utf8proc_tolower(utf8proc_int32_t(text[i])));
  }
  return out;
}

std::vector<std::u32string> words(std::u32string_view text) {
  return runs(text, [](char32_t c) { return !is_space(c); });
}

std::vector<std::u32string> parts(std::u32string_view text, char32_t separator) {
  std::vector<std::u32string> all(1);
  for (const char32_t c : text)
    if (c == separator)
      all.emplace_back();
    else
      all.back() += c;
  return all;
}

bool is_space(char32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
  const utf8proc_category_t k = category(c);
  return c == 0x85 || k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

bool is_digit(char32_t c) {
  return category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_word(char32_t c) {
  const utf8proc_category_t k = category(c);
  return is_letter(c) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO) || c == U'_';
}

bool is_punctuation(char32_t c) {
  return (c > 0x20 && c < 0x30) || (c > 0x39 && c < 0x41) || (c > 0x5A && c < 0x61) || (c > 0x7A && c < 0x7F);
}

std::vector<std::u32string> numbers(std::u32string_view text) {
  return runs(text, is_digit);
}

}  // namespace blockgtq
