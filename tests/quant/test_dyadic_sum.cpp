#include <cmath>
#include <vector>

#include "catch.h"
#include "quant/random.h"
#include "quant/same_sums.h"

using namespace blockgtq;
using blockgtq::test::same;

TEST_CASE("a dyadic sum does not depend on how the range was cut") {
  Random random(1);
  const size_t size = 3;
  std::vector<std::vector<double>> values(70, std::vector<double>(size));
  for (auto& v : values)
    for (double& x : v) x = random.standard_normal() * std::pow(10.0, double(random.next_u64() % 12));
  for (int round = 0; round < 300; ++round) {
    const int64_t first = int64_t(random.next_u64() % 40),
                  end = first + 1 + int64_t(random.next_u64() % (70 - first));
    DyadicSum whole, joined, piece;
    int64_t edge = first;
    for (int64_t c = first; c < end; ++c) {
      whole.add_chunk(c, values[c]);
      piece.add_chunk(c, values[c]);
      if (random.next_u64() % 4 == 0) {
        joined.append(piece);
        piece = DyadicSum();
        edge = c + 1;
      }
    }
    if (edge < end) joined.append(piece);
    REQUIRE(same(whole, joined));
    REQUIRE(whole.total() == joined.total());
    // The nodes are the maximal dyadic intervals: each one aligned, no two of them siblings.
    int64_t at = first;
    for (const auto& node : whole.nodes()) {
      REQUIRE(node.first == at);
      REQUIRE((node.count & (node.count - 1)) == 0);
      REQUIRE(node.first % node.count == 0);
      at += node.count;
    }
    REQUIRE(at == end);
    double sum = 0;
    for (int64_t c = first; c < end; ++c) sum += values[c][0];
    double magnitude = 0;
    for (int64_t c = first; c < end; ++c) magnitude += std::abs(values[c][0]);
    REQUIRE(std::abs(whole.total()[0] - sum) <= 70 * 0x1p-52 * magnitude);
  }
  CHECK(DyadicSum().total().empty());
}

TEST_CASE("a dyadic sum refuses gaps and other sizes") {
  DyadicSum sum;
  sum.add_chunk(3, {1});
  CHECK_THROWS_AS(sum.add_chunk(5, {1}), std::logic_error);
  CHECK_THROWS_AS(sum.add_chunk(3, {1}), std::logic_error);
  CHECK_THROWS_AS(sum.add_chunk(4, {1, 2}), std::logic_error);
  DyadicSum later;
  later.add_chunk(6, {1});
  CHECK_THROWS_AS(sum.append(later), std::logic_error);
}
