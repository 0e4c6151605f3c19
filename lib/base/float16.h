#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

namespace blockgtq {

/// IEEE binary16 and bfloat16 as raw bits. from_* are exact, to_* round to nearest even. to_half does not
/// saturate: an overflow gives infinity.
inline float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t(bits) << 16);
}
uint16_t to_bf16(float value);
float from_half(uint16_t bits);
uint16_t to_half(float value);

/// Arrays: out[i] = in[i], n elements.
void from_bf16(const uint16_t* in, size_t n, float* out);
void from_half(const uint16_t* in, size_t n, float* out);

}  // namespace blockgtq
