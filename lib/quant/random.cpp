#include "quant/random.h"

#include <array>
#include <bit>
#include <cmath>

#include "quant/ziggurat.h"

namespace blockgtq {

namespace {

using u128 = unsigned __int128;

constexpr u128 kPcgMultiplier = (u128(2549297995355413924u) << 64) | 4865540595714422341u;

// One word through numpy's SeedSequence hash; the constant changes with every word.
uint32_t hash_word(uint32_t value, uint32_t& constant, uint32_t multiplier) {
  value ^= constant;
  constant *= multiplier;
  value *= constant;
  return value ^ (value >> 16);
}

uint32_t mix_words(uint32_t x, uint32_t y) {
  const uint32_t mixed = 0xca01f9ddu * x - 0x4973f715u * y;
  return mixed ^ (mixed >> 16);
}

// SeedSequence(seed).generate_state(4, uint64) with its pool of four words. A 64-bit seed is one or two words
// of entropy. numpy hashes a zero for each missing word, so both lengths give the same here.
std::array<uint64_t, 4> seed_state(uint64_t seed) {
  std::array<uint32_t, 4> pool = {uint32_t(seed), uint32_t(seed >> 32), 0, 0};
  uint32_t constant = 0x43b0d7e5u;
  for (uint32_t& word : pool) word = hash_word(word, constant, 0x931e8875u);
  for (int from = 0; from < 4; ++from)
    for (int to = 0; to < 4; ++to)
      if (from != to) pool[to] = mix_words(pool[to], hash_word(pool[from], constant, 0x931e8875u));

  std::array<uint64_t, 4> state;
  constant = 0x8b51f9ddu;
  for (int i = 0; i < 4; ++i) {
    const uint64_t low = hash_word(pool[(2 * i) % 4], constant, 0x58f38dedu);
    const uint64_t high = hash_word(pool[(2 * i + 1) % 4], constant, 0x58f38dedu);
    state[i] = low | (high << 32);
  }
  return state;
}

}  // namespace

Random::Random(uint64_t seed) {
  const auto words = seed_state(seed);
  const u128 initial = (u128(words[0]) << 64) | words[1];
  const u128 sequence = (u128(words[2]) << 64) | words[3];
  increment_ = (sequence << 1) | 1;
  state_ = (increment_ + initial) * kPcgMultiplier + increment_;
}

uint64_t Random::next_u64() {
  state_ = state_ * kPcgMultiplier + increment_;
  const uint64_t folded = uint64_t(state_ >> 64) ^ uint64_t(state_);
  return std::rotr(folded, int(state_ >> 122));
}

double Random::next_double() {
  return double(next_u64() >> 11) * 0x1p-53;
}

double Random::standard_normal() {
  const Ziggurat& z = ziggurat();
  for (;;) {
    // One draw holds the layer (8 bits), the sign (1) and the candidate (52).
    const uint64_t draw = next_u64();
    const int layer = int(draw & 0xff);
    const bool negative = (draw >> 8) & 1;
    const uint64_t candidate = (draw >> 9) & 0x000fffffffffffff;
    const double magnitude = double(candidate) * z.scale[layer];
    const double x = negative ? -magnitude : magnitude;
    if (candidate < z.accept[layer]) return x;
    if (layer == 0) {
      // The tail (Marsaglia 1964); its sign is bit 8 of the candidate.
      for (;;) {
        const double beyond = -Ziggurat::kInverseTail * std::log1p(-next_double());
        const double trial = -std::log1p(-next_double());
        if (trial + trial > beyond * beyond)
          return (candidate >> 8) & 1 ? -(Ziggurat::kTail + beyond) : Ziggurat::kTail + beyond;
      }
    }
    // The wedge between the rectangle and the curve.
    const double height = (z.density[layer - 1] - z.density[layer]) * next_double() + z.density[layer];
    if (height < std::exp(-0.5 * x * x)) return x;
  }
}

}  // namespace blockgtq
