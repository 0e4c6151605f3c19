#include "quant/fp8.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace blockgtq {

namespace {

constexpr float kLargest = 448;
constexpr int kMantissa = 3, kLeastExponent = -6;

}  // namespace

uint8_t to_e4m3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const float magnitude = std::min(std::abs(value), kLargest);
  if (magnitude == 0) return sign;
  const int exponent = std::max(std::ilogb(magnitude), kLeastExponent);
  // The mantissa in units of the last place: 8..15 for a normal number, 0..7 for a subnormal one. Rounding up
  // to 16, or 8, carries into the exponent by itself, because exponent and mantissa are adjacent.
  const int units = int(std::nearbyint(std::ldexp(magnitude, kMantissa - exponent)));
  const int above = exponent - kLeastExponent;
  return uint8_t(sign | std::min((above << kMantissa) + units, 0x7e));
}

void Fp8::encode(const float* x, size_t n, uint8_t* codes) const {
  for (size_t i = 0; i < n * dim_; ++i) {
    require_codable(std::isfinite(x[i]));
    codes[i] = to_e4m3(x[i]);
  }
}

void Fp8::decode(const uint8_t* codes, size_t n, float* x) const {
  std::transform(codes, codes + n * dim_, x, from_e4m3);
}

}  // namespace blockgtq
