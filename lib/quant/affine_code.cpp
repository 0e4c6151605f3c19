#include "quant/affine_code.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"
#include "quant/quantizer.h"

namespace blockgtq {

namespace {

constexpr float kLargestHalf = 65504;

float rounded(float value) {
  return from_half(to_half(std::clamp(value, -kLargestHalf, kLargestHalf)));
}

}  // namespace

void put_half(float value, uint8_t* at) {
  const uint16_t half = to_half(std::clamp(value, -kLargestHalf, kLargestHalf));
  at[0] = uint8_t(half);
  at[1] = uint8_t(half >> 8);
}

float get_half(const uint8_t* at) {
  return from_half(uint16_t(at[0] | at[1] << 8));
}

AffineGrid AffineGrid::spanning(float least, float largest, int bits) {
  require_codable(std::isfinite(least) && std::isfinite(largest));
  return {rounded(least), rounded((largest - least) / float((1 << bits) - 1)), bits};
}

uint8_t AffineGrid::encode(float x) const {
  if (scale == 0) return 0;
  return uint8_t(std::clamp(std::nearbyint((x - zero) / scale), 0.0f, float((1 << bits) - 1)));
}

void AffineGrid::put(uint8_t* at) const {
  put_half(scale, at);
  put_half(zero, at + kHalfBytes);
}

AffineGrid AffineGrid::get(const uint8_t* at, int bits) {
  return {get_half(at + kHalfBytes), get_half(at), bits};
}

}  // namespace blockgtq
