#pragma once
#include <cstddef>
#include <cstdint>

namespace blockgtq {

inline constexpr size_t kHalfBytes = 2;

/// fp16 numbers in a code, low byte first.
void put_half(float value, uint8_t* at);  // saturates at 65504
float get_half(const uint8_t* at);

/// Round to nearest on an even grid of 2^bits levels from the least to the largest of some numbers.
struct AffineGrid {
  float zero = 0, scale = 0;  // fp16 values: x^ = zero + scale * code
  int bits = 0;

  static AffineGrid spanning(float least, float largest, int bits);
  uint8_t encode(float x) const;
  float decode(uint8_t code) const { return zero + scale * float(code); }
  void put(uint8_t* at) const;  // 4 bytes
  static AffineGrid get(const uint8_t* at, int bits);
};
inline constexpr size_t kGridBytes = 2 * kHalfBytes;

}  // namespace blockgtq
