#pragma once
#include <string>
#include <string_view>

namespace blockgtq {

/// Text of unknown origin as one line that a terminal can show. Control characters, marks that change the
/// direction of writing, and bytes that are not UTF-8 are escaped: \n, \x1b, \u202e. Of a text longer than
/// 8000 bytes the middle is left out.
std::string printable(std::string_view text);

}  // namespace blockgtq
