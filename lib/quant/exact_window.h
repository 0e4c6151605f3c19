#pragma once
#include <algorithm>
#include <compare>
#include <cstdint>

namespace blockgtq {

/// The positions that a quantized cache holds as they are: the first `sink` of a text, and the last `recent`
/// that a query sees, its own counted.
struct ExactWindow {
  int64_t sink = 0, recent = 0;
  auto operator<=>(const ExactWindow&) const = default;

  /// How many of a text's first n positions are exact when all of them are there.
  constexpr int64_t count(int64_t n) const { return std::min(n, sink + recent); }
};

}  // namespace blockgtq
