#include <cmath>

#include "catch.h"
#include "eval/wilson.h"

using namespace blockgtq;

TEST_CASE("wilson: the formula, worked out by hand in Python") {
  // x of n: 7 of 10, 0 of 10, 50 of 100
  const Bootstrap::Interval most = wilson(0.7, 10), none = wilson(0, 10), half = wilson(0.5, 100);
  CHECK(most.low == Approx(0.39677815).epsilon(1e-7));
  CHECK(most.high == Approx(0.89220873).epsilon(1e-7));
  CHECK(std::abs(none.low) < 1e-15);
  CHECK(none.high == Approx(0.27753280).epsilon(1e-7));
  CHECK(half.low == Approx(0.40383153).epsilon(1e-7));
  CHECK(half.high == Approx(0.59616847).epsilon(1e-7));
  CHECK(std::isnan(wilson(0.5, 0).low));
}
