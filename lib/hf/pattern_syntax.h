#pragma once
#include <string>
#include <string_view>

namespace blockgtq {

/// The same expression for PCRE2 (UTF, UCP, newline LF): Oniguruma's Ruby syntax, as far as tokenizers use
/// it. \s becomes Unicode's White_Space, `{n,m}+` a repeated group, ^ and $ match at every line. What could
/// match otherwise than in Oniguruma is refused by name: \w, \b, look-behind, back-references, options, set
/// operations, folding of anything but ASCII. `where` starts the message.
std::string to_pcre2(std::string_view oniguruma, const std::string& where);

/// An expression that matches this text and nothing else.
std::string literal_to_pcre2(std::string_view text, const std::string& where);

}  // namespace blockgtq
