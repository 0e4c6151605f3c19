#pragma once
#include <bit>
#include <cstdint>

namespace blockgtq {

/// e^x in float32 by range reduction and a polynomial. It is within 2 units in the last place of the true
/// value for |x| < 87, clamped beyond, and NaN for NaN. It has the same bits on every machine, and loops over
/// it vectorize.
inline float fast_exp(float x) {
  constexpr float kLog2e = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f,
                  kLn2Low = -2.12194440e-4f;  // the sum is ln 2, the first product exact
  constexpr float kRound = 12582912.0f;       // 1.5 * 2^23: adding it rounds to an integer
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln(2) / 2
  // Taylor to r^7: the rest is below (ln 2 / 2)^8 / 8! = 5e-9
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = (p * r) * r + r + 1.0f;
  // The low bits of `shifted` hold the integer n. Moved to the exponent it multiplies by 2^n.
  const uint32_t bits = std::bit_cast<uint32_t>(p) + (std::bit_cast<uint32_t>(shifted) << 23);
  return std::bit_cast<float>(bits) +
         (x - x);  // a NaN's payload may have changed its exponent: x - x is NaN again
}

}  // namespace blockgtq
