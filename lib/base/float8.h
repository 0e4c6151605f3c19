#pragma once
#include <array>
#include <bit>
#include <cstdint>

namespace blockgtq {

/// FP8 E4M3 as accelerators and checkpoints have it (E4M3FN): bias 7, largest 448, no infinities, NaN where
/// all seven bits are set. Exact.
constexpr float from_e4m3(uint8_t bits) {
  const uint32_t sign = uint32_t(bits & 0x80) << 24, magnitude = bits & 0x7f;
  if (magnitude == 0x7f) return std::bit_cast<float>(sign | 0x7fc00000);
  if (magnitude < 8) {  // subnormal: in units of 2^-9
    const float value = float(magnitude) / 512;
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | ((magnitude << 20) + (uint32_t(127 - 7) << 23)));
}

/// FP4 E2M1, of 16 numbers: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and the same with a sign. Exact.
constexpr float from_e2m1(uint8_t bits) {
  constexpr std::array<float, 8> kMagnitudes = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  const float value = kMagnitudes[bits & 7];
  return (bits & 8) != 0 ? -value : value;
}

/// A scale of E8M0: 2^(bits - 127), NaN where all bits are set. Exact; 0 is a subnormal float.
constexpr float from_e8m0(uint8_t bits) {
  return std::bit_cast<float>(bits == 0xff ? 0x7fc00000 : bits == 0 ? 0x00400000 : uint32_t(bits) << 23);
}

}  // namespace blockgtq
