#pragma once
#include <string_view>

namespace blockgtq {

/// Python's difflib.SequenceMatcher(None, a, b).ratio(), with its heuristic: where b has 200 characters or
/// more, those that make up over one per cent of it can continue a match but not begin one.
double match_ratio(std::u32string_view a, std::u32string_view b);

}  // namespace blockgtq
