#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace blockgtq {

/// The order in which blocks enter their groups: block indices (B) sorted by bit width as the published code
/// sorts them. That sort is not stable (introsort: median of three, insertion sort below 17 elements), so
/// blocks of equal width do not stay in ascending index. The order decides which coordinate meets which
/// column of the rotation, and with it every number to a few percent. We write the sort out, so that the
/// order is the same with every standard library.
std::vector<int> group_order(std::span<const uint8_t> bits);

}  // namespace blockgtq
