#pragma once
#include <algorithm>
#include <compare>
#include <cstdint>

namespace blockgtq {

/// The positions that a quantized cache holds exactly: the first `sink` of a text, and the last `recent` that
/// a query sees, its own included.
struct ExactWindow {
  int64_t sink = 0, recent = 0;
  auto operator<=>(const ExactWindow&) const = default;

  /// How many of a text's n positions are exact.
  constexpr int64_t count(int64_t n) const { return std::min(n, sink + recent); }
};

}  // namespace blockgtq
