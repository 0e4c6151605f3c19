#include <cmath>

#include "catch.h"
#include "eval/bootstrap.h"
#include "quant/random.h"

using namespace blockgtq;

namespace {

/// How often the interval of n chunks of skewed noise (exponential, mean 1) or of normal noise holds the
/// mean.
double coverage(size_t n_chunks, bool skewed, int experiments) {
  const Bootstrap bootstrap(n_chunks);
  Random random(3);
  int held = 0;
  for (int e = 0; e < experiments; ++e) {
    std::vector<ChunkSum> chunks;
    for (size_t c = 0; c < n_chunks; ++c)
      chunks.push_back(
          {10 * (skewed ? -std::log(1 - random.next_double()) : 1 + random.standard_normal()), 10});
    const auto [low, high] = bootstrap.mean(chunks);
    held += low <= 1 && 1 <= high;
  }
  return double(held) / experiments;
}

}  // namespace

// The percentile interval is known to be narrow by sqrt(1 - 1/n) and by normal instead of t quantiles: of n
// normal values it holds the mean with the probability that |t| of n - 1 degrees stays below 1.96
// sqrt((n - 1) / n): 0.940 for 40, 0.891 for 8. 2000 experiments see that within 3 sqrt(p (1 - p) / 2000) =
// 0.016 and 0.022; 1000 draws in common add some 0.005.
TEST_CASE("intervals hold the mean as often as they should") {
  CHECK(coverage(40, false, 2000) == Approx(0.940).margin(0.021));
  CHECK(coverage(8, false, 2000) == Approx(0.891).margin(0.026));
  CHECK(coverage(40, true, 2000) > 0.89);  // skewed: less, but not far
}

TEST_CASE("intervals: order, weights, repetition") {
  const std::vector<ChunkSum> chunks = {{1, 1}, {4, 2}, {9, 3}, {8, 2}};
  const auto [low, high] = Bootstrap(4).mean(chunks);
  CHECK(low >= 1);
  CHECK(high <= 4);
  CHECK(low < mean(chunks));
  CHECK(mean(chunks) == 22.0 / 8);
  CHECK(mean(chunks) < high);
  const auto again = Bootstrap(4).mean(chunks);
  CHECK(again.low == low);
  CHECK(again.high == high);
  // The same draws for everybody: twice the values, twice the bounds, to the bit.
  std::vector<ChunkSum> twice = chunks;
  for (ChunkSum& c : twice) c.sum *= 2;
  CHECK(Bootstrap(4).mean(twice).low == 2 * low);
  // Equal chunks leave no doubt.
  const auto sure = Bootstrap(3).mean({{2, 1}, {4, 2}, {6, 3}});
  CHECK(sure.low == 2);
  CHECK(sure.high == 2);
}

TEST_CASE("one chunk has no interval, nothing counted has no mean") {
  CHECK(std::isnan(Bootstrap(1).mean({{3, 1}}).low));
  CHECK(std::isnan(Bootstrap(2).mean({{0, 0}, {0, 0}}).high));
  CHECK(std::isnan(mean({{0, 0}})));
  CHECK(std::isnan(mean({})));
}
