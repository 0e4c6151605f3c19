#include <algorithm>

#include "catch.h"
#include "quant/bit_split.h"

using namespace blockgtq;

TEST_CASE("bit steps: quarters, the bits themselves, whole ones") {
  CHECK(bit_steps(0, false) == std::vector<double>{0});
  CHECK(bit_steps(1, false) == std::vector<double>{1, 1.25, 1.5, 1.75, 2, 2.25});
  CHECK(bit_steps(1.1, false) == std::vector<double>{1, 1.1, 1.25, 1.5, 1.75, 2, 2.25});
  CHECK(bit_steps(2.5, true) == std::vector<double>{1, 2, 3});
  CHECK(bit_steps(8, true) == std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8});  // and no further
}

TEST_CASE("even split: the same for both where the methods allow it") {
  CHECK(even_split(2.5, {128, 128, false, false}) == BitPair{2.5, 2.5});
  CHECK(even_split(2.3, {192, 128, false, false}) == BitPair{2.3, 2.3});
  CHECK(even_split(3, {128, 128, true, true}) == BitPair{3, 3});
  // whole bits: keys before values
  CHECK(even_split(2.5, {128, 128, true, true}) == BitPair{3, 2});
  CHECK(even_split(4.5, {64, 64, true, true}) == BitPair{5, 4});
  // 2.25 = K2.5 V2, closer than K1.5 V3
  CHECK(even_split(2.25, {128, 128, false, true}) == BitPair{2.5, 2});
  CHECK(even_split(2.25, {128, 128, true, false}) == BitPair{2, 2.5});
  // what is left of 2.3 cannot be spent
  CHECK(even_split(2.3, {128, 128, true, true}) == BitPair{2, 2});
  // by coordinates: 2.5 * 320 = 800; K2V3 spends 768 of it, K3V1 704
  CHECK(even_split(2.5, {192, 128, true, true}) == BitPair{2, 3});
  // no values per head
  CHECK(even_split(2.5, {80, 0, false, false}) == BitPair{2.5, 0});
  CHECK(even_split(2.5, {80, 0, true, true}) == BitPair{2, 0});
  CHECK(even_split(1, {128, 128, true, true}) == BitPair{1, 1});
  CHECK(even_split(8, {128, 128, true, true}) == BitPair{8, 8});
}

TEST_CASE("splits under a ceiling: the most values of every key budget, none that another is better than") {
  const std::vector<PricedBits> keys = {{1, 10}, {1.5, 15}, {2, 20}, {2.5, 25}, {3, 30}};
  const std::vector<PricedBits> values = {{1, 10}, {2, 20}, {3, 30}};
  // K1V3; K1.5 and K2 with V2: the first of them has less of everything; K2.5 and K3 with V1
  CHECK(splits_under(40, keys, values) == std::vector<BitPair>{{1, 3}, {2, 2}, {3, 1}});
  CHECK(splits_under(20, keys, values) == std::vector<BitPair>{{1, 1}});
  CHECK(splits_under(19, keys, values).empty());
  // one side exact
  CHECK(splits_under(20, keys, {{0, 0}}) == std::vector<BitPair>{{2, 0}});
}

TEST_CASE("splits under the even split's bytes hold the even split, or more") {
  // A norm of two bytes each, D = 64: at equal sizes every step on one side is a step on the other.
  auto priced = [](double average) {
    std::vector<PricedBits> side;
    for (double b : bit_steps(average, false)) side.push_back({b, 64 * b / 8 + 2});
    return side;
  };
  for (const double average : {1.0, 1.75, 2.5, 3.5, 8.0}) {
    const auto side = priced(average);
    const auto splits = splits_under(2 * (64 * average / 8 + 2), side, side);
    CHECK(std::find(splits.begin(), splits.end(), BitPair{average, average}) != splits.end());
    for (const BitPair& split : splits) CHECK(split.k + split.v <= 2 * average);
  }
}
