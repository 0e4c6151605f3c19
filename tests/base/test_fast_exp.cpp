#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fast_exp.h"
#include "catch.h"
#include "worse.h"

using namespace blockgtq;
using test::worse;

TEST_CASE("fast_exp is within two units in the last place") {
  double worst = 0;
  for (uint32_t sign : {0u, 0x80000000u})
    for (uint32_t bits = 0x2f800000; bits < 0x42ae0000; bits += 1009) {  // 2^-32 to 87
      const float x = std::bit_cast<float>(bits | sign);
      const double want = std::exp(double(x)), unit = std::ldexp(1.0, std::ilogb(want) - 23);
      worst = worse(worst, std::abs(double(fast_exp(x)) - want) / unit);
    }
  CHECK(worst < 2);
  CHECK(fast_exp(0) == 1);
  CHECK(fast_exp(-1e30f) < 2e-38f);
  CHECK(fast_exp(-std::numeric_limits<float>::infinity()) < 2e-38f);
  CHECK(std::isfinite(fast_exp(1e30f)));
  for (uint32_t payload : {0x7fc00000u, 0x7fc00001u, 0x7f800001u, 0xffffffffu})
    CHECK(std::isnan(fast_exp(std::bit_cast<float>(payload))));
}
