#pragma once
#include <string>
#include <string_view>

namespace blockgtq {

/// An expression for PCRE2 (UTF, UCP, newline LF).
struct Pcre2Text {
  std::string text;
  bool has_categories = false;  // such as \p{L} or \d, which depend on a version of Unicode
};

/// Translates an expression in Oniguruma's Ruby syntax, as far as tokenizers use it. \s becomes Unicode's
/// White_Space, `{n,m}+` a repeated group; ^ and $ match at every line. What could match differently than in
/// Oniguruma is refused by name (Exit::input): \w, \b, look-behind, back-references, options, set operations,
/// case folding beyond ASCII, and, in an expression with categories, a code point that has to be told from
/// its equivalent in kReplaced. `where` begins the message.
Pcre2Text to_pcre2(std::string_view oniguruma, const std::string& where);

/// An expression that matches exactly this text.
Pcre2Text literal_to_pcre2(std::string_view text);

}  // namespace blockgtq
