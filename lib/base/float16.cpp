#include "base/float16.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace blockgtq {
namespace {

constexpr uint32_t kExponent = 0x7f800000u;  // of a float
constexpr uint32_t kQuiet = 0x00400000u;     // a float NaN's quiet bit

}  // namespace

uint16_t to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  // Rounding could turn a NaN into infinity. So its payload is cut, and it stays a NaN.
  if ((bits & ~0x80000000u) > kExponent) return uint16_t((bits | kQuiet) >> 16);
  return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// NaNs come out quiet and with their payload, as with the processor's own conversion.
float from_half(uint16_t bits) {
  const uint32_t sign = uint32_t(bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude > 0x7c00u) return std::bit_cast<float>(sign | kExponent | kQuiet | (magnitude << 13));
  if (magnitude == 0x7c00u) return std::bit_cast<float>(sign | kExponent);
  // A half's bits, shifted to the place of a float's, are the value times 2^-112, because the biases of the
  // exponents differ by 112. The product with 2^112 is exact, also for subnormal halves.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

uint16_t to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > kExponent) return uint16_t(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return uint16_t(sign | 0x7c00u);  // 65520 and more round to infinity
  if (magnitude < 0x38800000u) {
    // Below 2^-14: a subnormal half counts units of 2^-24, and the last place of the float 0.5 is that unit.
    // So adding 0.5 rounds to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return uint16_t(sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return uint16_t(sign | ((rounded >> 13) - (112u << 10)));
}

void from_bf16(const uint16_t* in, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = from_bf16(in[i]);
}

void from_half(const uint16_t* in, size_t n, float* out) {
  size_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(half));
  }
#endif
  for (; i < n; ++i) out[i] = from_half(in[i]);
}

}  // namespace blockgtq
