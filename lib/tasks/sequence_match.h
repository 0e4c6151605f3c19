#pragma once
#include <string_view>

namespace blockgtq {

/// difflib.SequenceMatcher(None, a, b).ratio() of Python, with its heuristic: of a b of 200 characters or
/// more, those that make up over one per cent of it only continue a match.
double match_ratio(std::u32string_view a, std::u32string_view b);

}  // namespace blockgtq
