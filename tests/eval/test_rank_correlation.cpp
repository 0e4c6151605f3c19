#include <cmath>
#include <stdexcept>

#include "catch.h"
#include "eval/rank_correlation.h"

using namespace blockgtq;

TEST_CASE("rank correlation: known answers") {
  CHECK(rank_correlation({1, 2, 3, 4}, {1, 10, 100, 1e9}) == Approx(1));
  CHECK(rank_correlation({1, 2, 3, 4}, {-1, -10, -100, -1e9}) == Approx(-1));
  // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7])
  CHECK(rank_correlation({1, 2, 3, 4, 5}, {5, 6, 7, 8, 7}) == Approx(0.82078268166812329).epsilon(1e-15));
  // no ties: 1 - 6 sum d^2 / (n (n^2 - 1)) with d = 0, 1, -1, 2, -2
  CHECK(rank_correlation({1, 2, 3, 4, 5}, {1, 3, 2, 6, 4.5}) ==
        Approx(1 - 6.0 * (0 + 1 + 1 + 1 + 1) / (5 * 24)).epsilon(1e-15));
  CHECK(rank_correlation({3, 1, 2}, {30, 10, 20}) == Approx(1));
  CHECK(rank_correlation({1, 1, 2, 2}, {1, 2, 1, 2}) == 0);
  CHECK(rank_correlation({0, INFINITY}, {1, 2}) == Approx(1));
}

TEST_CASE("rank correlation where there is none") {
  CHECK(std::isnan(rank_correlation({}, {})));
  CHECK(std::isnan(rank_correlation({1}, {2})));
  CHECK(std::isnan(rank_correlation({1, 1, 1}, {1, 2, 3})));
  CHECK_THROWS_AS(rank_correlation({1, 2}, {1}), std::logic_error);
  CHECK_THROWS_AS(rank_correlation({1, NAN}, {1, 2}), std::logic_error);
}
