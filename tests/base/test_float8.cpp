#include "base/float8.h"

#include <cmath>
#include <limits>

#include "catch.h"

using namespace blockgtq;

TEST_CASE("floats of eight and four bits", "[float8]") {
  CHECK(from_e4m3(0x38) == 1);
  CHECK(from_e4m3(0x7e) == 448);
  CHECK(from_e4m3(0xfe) == -448);
  CHECK(from_e4m3(0x08) == std::ldexp(1.0f, -6));
  CHECK(from_e4m3(0x01) == std::ldexp(1.0f, -9));
  CHECK(from_e4m3(0x87) == -7 * std::ldexp(1.0f, -9));
  CHECK(std::signbit(from_e4m3(0x80)));
  CHECK(std::isnan(from_e4m3(0x7f)));
  CHECK(std::isnan(from_e4m3(0xff)));
  CHECK(from_e2m1(7) == 6);
  CHECK(from_e2m1(0xb) == -1.5f);
  CHECK(std::signbit(from_e2m1(8)));
  CHECK(from_e8m0(127) == 1);
  CHECK(from_e8m0(254) == std::ldexp(1.0f, 127));
  CHECK(from_e8m0(1) == std::numeric_limits<float>::min());
  CHECK(from_e8m0(0) == std::ldexp(1.0f, -127));
  CHECK(std::isnan(from_e8m0(255)));
}
