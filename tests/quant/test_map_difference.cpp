#include "quant/map_difference.h"

#include "base/error.h"
#include "catch.h"

using namespace blockgtq;

namespace {

/// Two layers of two heads of four blocks, energies 1, 2, 3, ...
BitMap small_map(std::vector<uint8_t> bits) {
  BitMap map;
  map.shape.n_layers = 2;
  map.shape.n_heads = map.shape.n_kv_heads = 2;
  map.shape.layout = {8, 8, Pairing::half};
  for (int i = 0; i < 16; ++i) map.energy.push_back(i + 1);
  bits.resize(16, 2);
  map.budgets = {{2, bits}};
  return map;
}

}  // namespace

TEST_CASE("maps: which bits differ, and what that does to the predicted error") {
  const BitMap a = small_map({}), b = small_map({3, 1, 2, 2, 4});
  const std::vector<BitDifference> all = map_differences(a, b, "a", "b");
  REQUIRE(all.size() == 1);
  CHECK(all[0].array == "bits");
  CHECK(all[0].average_bits == 2);
  const BitDifference::Count total = all[0].total();
  CHECK(total.blocks == 16);
  CHECK(total.fewer == 1);
  CHECK(total.more == 2);
  CHECK(total.bits_a == 32);
  CHECK(total.bits_b == 34);
  CHECK(total.changed() == 3.0 / 16);
  CHECK(total.error_a == 136.0 / 16);
  // blocks of energy 1, 2 and 5 at 3, 1 and 4 bits
  CHECK(total.error_b == (136.0 - 8) / 16 + 1.0 / 64 + 2.0 / 4 + 5.0 / 256);
  CHECK(all[0].layer(0, 2).more == 2);
  CHECK(all[0].layer(1, 2).changed() == 0);
  CHECK(all[0].heads[1].more == 1);
  CHECK(map_differences(a, a, "a", "a")[0].total().changed() == 0);
}

TEST_CASE("maps: only budgets and arrays that both hold, of one shape") {
  BitMap a = small_map({}), b = small_map({});
  a.budgets.push_back({3, std::vector<uint8_t>(16, 3)});
  CHECK(map_differences(a, b, "a", "b").size() == 1);
  b.budgets[0].average_bits = 4;
  CHECK_THROWS_WITH(map_differences(a, b, "a", "b"), ContainsSubstring("no budget in common"));
  b = small_map({});
  b.shape.layout.pairing = Pairing::interleaved;
  CHECK_THROWS_WITH(map_differences(a, b, "a", "b"), ContainsSubstring("pairing: half and interleaved"));
  // pairs of a basis of values, of two coordinates each
  a = small_map({});
  a.calibration.resize(4);
  for (HeadCalibration& head : a.calibration) head.v_spectrum = {4, 4, 1, 1};
  b = a;
  a.budgets[0].value_bits = {3, 1, 3, 1, 3, 1, 3, 1};
  b.budgets[0].value_bits = {3, 1, 3, 1, 3, 1, 2, 2};
  const std::vector<BitDifference> all = map_differences(a, b, "a", "b");
  REQUIRE(all.size() == 2);
  CHECK(all[1].array == "value_bits");
  CHECK(all[1].heads[3].error_a == 8.0 / 64 + 2.0 / 4);
  CHECK(all[1].heads[3].error_b == 8.0 / 16 + 2.0 / 16);
}
