#pragma once
#include <cstddef>
#include <cstdint>

namespace blockgtq {

inline constexpr size_t kHalfBytes = 2;

/// One fp16 number in a code, kHalfBytes at `at`, low byte first. A value beyond +-65504 saturates.
void put_half(float value, uint8_t* at);
float get_half(const uint8_t* at);

/// A uniform grid of 2^bits levels between a minimum and a maximum, as KIVI and round-to-nearest use.
struct AffineGrid {
  float zero = 0, scale = 0;  // fp16 values: x^ = zero + scale * code
  int bits = 0;

  /// The grid from `least` to `largest`, bits in 1..8. Exit::nonfinite where either is not finite.
  static AffineGrid spanning(float least, float largest, int bits);
  /// The nearest level, 0 .. 2^bits - 1; what lies outside the grid is clipped to its ends.
  uint8_t encode(float x) const;
  float decode(uint8_t code) const { return zero + scale * float(code); }
  void put(uint8_t* at) const;  // kGridBytes: scale, then zero
  static AffineGrid get(const uint8_t* at, int bits);
};
inline constexpr size_t kGridBytes = 2 * kHalfBytes;

}  // namespace blockgtq
