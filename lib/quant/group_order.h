#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace blockgtq {

/// The order in which blocks enter their groups: block indices sorted by bit width as the published code
/// sorts them. Its sort is not stable (introsort: median of three, insertion sort below 17 elements), so
/// equal widths do not stay in ascending index; the order decides which coordinate meets which column of the
/// rotation, hence every number to a few percent. Written out here so that it is the same with every standard
/// library.
std::vector<int> group_order(std::span<const uint8_t> bits);

}  // namespace blockgtq
