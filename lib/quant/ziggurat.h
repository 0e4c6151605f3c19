#pragma once
#include <array>
#include <cstdint>

namespace blockgtq {

/// The 256 layers of equal area under exp(-x^2/2) that numpy's standard_normal draws from. The base layer
/// (with the tail) is first, then they go from the top of the curve down. Candidates are 52-bit integers.
struct Ziggurat {
  static constexpr double kTail = 3.6541528853610088;          // where the tail begins
  static constexpr double kInverseTail = 0.27366123732975828;  // 1 / kTail as numpy writes it
  std::array<uint64_t, 256> accept;  // a candidate below this lies under the curve for certain
  std::array<double, 256> scale;     // candidate -> x
  std::array<double, 256> density;   // exp(-x^2/2) at the layer's outer edge
};

/// numpy's tables, bit for bit.
const Ziggurat& ziggurat();

}  // namespace blockgtq
