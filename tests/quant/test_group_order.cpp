#include "quant/group_order.h"

#include <algorithm>
#include <random>

#include "catch.h"

namespace blockgtq {

TEST_CASE("group order: 32 equal widths come out as published") {
  // made with torch 2.11: torch.full((32,), 3).argsort()
  std::vector<int> expected = {16};
  for (int i = 31; i >= 17; --i) expected.push_back(i);
  expected.push_back(0);
  for (int i = 15; i >= 1; --i) expected.push_back(i);
  CHECK(group_order(std::vector<uint8_t>(32, 3)) == expected);
}

TEST_CASE("group order: up to 16 blocks keep their index") {
  std::mt19937 random(7);
  for (int n = 0; n <= 16; ++n) {
    std::vector<uint8_t> bits(n);
    for (auto& b : bits) b = uint8_t(1 + random() % 8);
    std::vector<int> expected(n);
    for (int i = 0; i < n; ++i) expected[i] = i;
    std::stable_sort(expected.begin(), expected.end(), [&](int a, int b) { return bits[a] < bits[b]; });
    CHECK(group_order(bits) == expected);
  }
}

#ifdef __GLIBCXX__
TEST_CASE("group order is libstdc++'s std::sort, which the published library uses") {
  std::mt19937 random(11);
  for (int trial = 0; trial < 3000; ++trial) {
    const int n = 2 + int(random() % 255), widths = 1 + int(random() % 8);
    std::vector<uint8_t> bits(n);
    for (auto& b : bits) b = uint8_t(1 + random() % widths);
    std::vector<std::pair<int, int>> sorted;
    for (int i = 0; i < n; ++i) sorted.emplace_back(bits[i], i);
    std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<int> expected;
    for (const auto& s : sorted) expected.push_back(s.second);
    REQUIRE(group_order(bits) == expected);
  }
}
#endif

}  // namespace blockgtq
