#pragma once
#include <string>
#include <string_view>

namespace blockgtq {

/// Text of unknown origin as one line that a terminal can show: control characters, marks that turn the
/// direction of writing, and bytes that are not UTF-8 become \n, \x1b, \u202e. The middle of what is longer
/// than 8000 bytes is left out.
std::string printable(std::string_view text);

}  // namespace blockgtq
