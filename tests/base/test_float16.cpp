#include "base/float16.h"

#include <cmath>
#include <limits>
#include <vector>

#include "catch.h"
#ifdef __F16C__
#include <immintrin.h>
#endif

using namespace blockgtq;

namespace {

uint32_t bits_of(float f) {
  return std::bit_cast<uint32_t>(f);
}

/// The value of a finite half by the standard's formula.
double half_value(uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return h & 0x8000 ? -magnitude : magnitude;
}

float infinity() {
  return std::numeric_limits<float>::infinity();
}

}  // namespace

TEST_CASE("all 65536 halves") {
  size_t wrong = 0;
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto h = uint16_t(i);
    const float f = from_half(h);
    const bool nan = (h & 0x7fff) > 0x7c00;
    if (nan) {
      wrong += !std::isnan(f) || std::signbit(f) != bool(h & 0x8000) || to_half(f) != (h | 0x200);
    } else if ((h & 0x7fff) == 0x7c00) {
      wrong += f != (h & 0x8000 ? -infinity() : infinity()) || to_half(f) != h;
    } else {
      wrong += double(f) != half_value(h) || std::signbit(f) != bool(h & 0x8000) || to_half(f) != h;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("to_half rounds to nearest, ties to even") {
  // The midpoint of two neighbours has one bit more than they have, so a float holds it, and its own
  // neighbours. 65520 is the midpoint of the largest half and the 65536 that would follow it.
  size_t wrong = 0;
  for (uint16_t h = 0; h < 0x7c00; ++h) {
    const double next = h == 0x7bff ? 65536.0 : half_value(uint16_t(h + 1));
    const auto middle = float((half_value(h) + next) / 2);
    const auto up = uint16_t(h + 1), even = uint16_t(h & 1 ? h + 1 : h);
    wrong += to_half(middle) != even || to_half(-middle) != (even | 0x8000);
    wrong += to_half(std::nextafter(middle, 0.0f)) != h;
    wrong += to_half(std::nextafter(middle, infinity())) != up;
  }
  CHECK(wrong == 0);
  CHECK(to_half(65504.0f) == 0x7bff);
  CHECK(to_half(std::nextafter(65520.0f, 0.0f)) == 0x7bff);
  CHECK(to_half(65520.0f) == 0x7c00);
  CHECK(to_half(std::numeric_limits<float>::max()) == 0x7c00);
  CHECK(to_half(std::numeric_limits<float>::denorm_min()) == 0);
  CHECK(to_half(-std::numeric_limits<float>::denorm_min()) == 0x8000);
  CHECK(to_half(std::bit_cast<float>(0x7f800001u)) == 0x7e00);  // a NaN whose payload would be cut to zero
}

#ifdef __F16C__
TEST_CASE("to_half is the processor's conversion") {
  size_t wrong = 0;
  for (uint64_t i = 0; i < (uint64_t(1) << 32); i += 509) {  // a prime step visits all exponents and low bits
    const float f = std::bit_cast<float>(uint32_t(i));
    wrong += to_half(f) != uint16_t(_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT));
  }
  CHECK(wrong == 0);
}
#endif

TEST_CASE("all 65536 bfloat16s") {
  size_t wrong = 0;
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto b = uint16_t(i);
    const float f = from_bf16(b);
    wrong += bits_of(f) != uint32_t(b) << 16;
    wrong += to_bf16(f) != (std::isnan(f) ? (b | 0x40) : b);
  }
  CHECK(wrong == 0);
}

TEST_CASE("to_bf16 rounds to nearest, ties to even") {
  size_t wrong = 0;
  for (uint32_t b = 0; b < 0x7f80; ++b) {
    const uint32_t middle = b << 16 | 0x8000;
    const uint32_t even = b & 1 ? b + 1 : b;
    for (const uint32_t sign : {0u, 0x80000000u}) {
      const auto round = [&](uint32_t bits) { return to_bf16(std::bit_cast<float>(sign | bits)); };
      const auto want = [&](uint32_t bits) { return uint16_t(sign >> 16 | bits); };
      wrong +=
          round(middle) != want(even) || round(middle - 1) != want(b) || round(middle + 1) != want(b + 1);
    }
  }
  CHECK(wrong == 0);
  CHECK(to_bf16(std::numeric_limits<float>::max()) == 0x7f80);  // infinity is the nearest
  CHECK(to_bf16(std::bit_cast<float>(0x7f800001u)) == 0x7fc0);
  CHECK(to_bf16(std::bit_cast<float>(0xffffffffu)) == 0xffff);
}

TEST_CASE("arrays convert as single values do") {
  std::vector<uint16_t> in(65536);
  for (size_t i = 0; i < in.size(); ++i) in[i] = uint16_t(i);
  std::vector<float> out(in.size());
  size_t wrong = 0;
  from_half(in.data(), in.size(), out.data());
  for (size_t i = 0; i < in.size(); ++i) wrong += bits_of(out[i]) != bits_of(from_half(in[i]));
  from_bf16(in.data(), in.size(), out.data());
  for (size_t i = 0; i < in.size(); ++i) wrong += bits_of(out[i]) != bits_of(from_bf16(in[i]));
  CHECK(wrong == 0);

  // Lengths around a vector's, from odd places: nothing is written behind the end.
  for (size_t n = 0; n <= 20; ++n) {
    for (size_t offset = 0; offset < 3; ++offset) {
      std::vector<float> part(n + 1, -1.0f);
      from_half(in.data() + 0x3c00 + offset, n, part.data());
      for (size_t i = 0; i < n; ++i) wrong += part[i] != from_half(uint16_t(0x3c00 + offset + i));
      wrong += part[n] != -1.0f;
    }
  }
  CHECK(wrong == 0);
}
