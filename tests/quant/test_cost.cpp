#include <vector>

#include "catch.h"
#include "quant/block_gtq.h"
#include "quant/cost.h"
#include "quant/random.h"

using namespace blockgtq;

TEST_CASE("what a key costs: nominal, packed, in a page") {
  const std::vector<uint8_t> bits = {1, 4, 4, 2};  // 22 bits, three groups
  CHECK(Cost{CostKind::nominal}.bytes(bits) == 2.75);
  CHECK(Cost{CostKind::packed}.bytes(bits) == 3 + 6);
  CHECK(Cost{CostKind::packed, NormKind::key}.bytes(bits) == 3 + 2);
  CHECK(Cost{CostKind::page}.bytes(bits) == 2.75 + 6);
  CHECK(Cost{CostKind::page, NormKind::key}.bytes(bits) == 2.75 + 2);
  CHECK(Cost{CostKind::packed}.bytes({}) == 0);
}

TEST_CASE("packed is what the quantizers store") {
  Random random(3);
  for (int round = 0; round < 30; ++round) {
    const int n_blocks = 1 + int(random.next_u64() % 24);
    std::vector<uint8_t> bits(n_blocks);
    for (uint8_t& b : bits) b = uint8_t(1 + random.next_u64() % 8);
    const BlockGtq quantizer({2 * n_blocks, 2 * n_blocks, Pairing::half}, bits);
    CHECK(Cost{CostKind::packed}.bytes(bits) == double(quantizer.code_bytes()));
  }
}

TEST_CASE("a page's alignment never costs anything, and block bits are its bytes") {
  Random random(4);
  for (int round = 0; round < 1000; ++round) {
    std::vector<uint8_t> bits(1 + random.next_u64() % 256);
    int sum = 0;
    unsigned widths = 0;
    for (uint8_t& b : bits) sum += b = uint8_t(1 + random.next_u64() % 8), widths |= 1u << b;
    for (const NormKind norms : {NormKind::group, NormKind::key})
      for (const CostKind kind : {CostKind::nominal, CostKind::packed, CostKind::page}) {
        const Cost cost{kind, norms};
        const int block_bits = sum + cost.per_key() + cost.per_group() * __builtin_popcount(widths);
        const int steps = (block_bits + cost.step() - 1) / cost.step();
        REQUIRE(cost.bytes(bits) == 0.25 * steps * cost.step());
      }
  }
}

TEST_CASE("what bytes pay for") {
  CHECK(Cost{CostKind::nominal}.block_bits(10 * 2.3 / 4) == 23);
  CHECK(Cost{CostKind::nominal}.block_bits(100 * 4.35 / 4) == 435);
  CHECK(Cost{CostKind::packed}.block_bits(50) == 200);
  CHECK(Cost{CostKind::packed}.block_bits(50.9) == 200);
  CHECK(Cost{CostKind::page}.block_bits(50.9) == 203);
}
