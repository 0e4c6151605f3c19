#include <cmath>
#include <vector>

#include "base/float16.h"
#include "catch.h"
#include "quant/block_gtq.h"
#include "quant/centred.h"
#include "quant/linear_quantizer.h"
#include "quant/packing.h"
#include "quant/random.h"
#include "worse.h"

using namespace blockgtq;
using test::worse;

namespace {

std::vector<float> gaussian(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = float(random.standard_normal());
  return x;
}

std::vector<float> round_trip(const Quantizer& quantizer, const std::vector<float>& x) {
  const size_t n = x.size() / quantizer.dim();
  std::vector<uint8_t> codes(quantizer.code_bytes(n), 0xaa);
  quantizer.encode(x.data(), n, codes.data());
  std::vector<float> y(x.size(), -99);
  quantizer.decode(codes.data(), n, y.data());
  return y;
}

}  // namespace

// Both compute the same numbers in another order of float32 operations: dot products of 64 terms whose values
// stay below 4 are off by at most 64 * 2^-24 * 4 relative to the norm. A coordinate nearer than that to a
// boundary may take the neighbouring code; so all but a few vectors agree closely.
TEST_CASE("the published quantizers are linear codes") {
  const BlockLayout layout{64, 64, Pairing::half};
  std::vector<uint8_t> bits(32);
  for (int b = 0; b < 32; ++b) bits[b] = uint8_t(2 + b % 3);
  const BlockGtq block(layout, bits);
  const UniformTqMse uniform(64, 3);
  const size_t n = 400;
  const auto x = gaussian(64 * n, 5);
  for (const Quantizer* published :
       {static_cast<const Quantizer*>(&block), static_cast<const Quantizer*>(&uniform)}) {
    const LinearQuantizer linear(*published->linear_code());
    CHECK(linear.code_bytes() == published->code_bytes());
    const auto a = round_trip(*published, x), b = round_trip(linear, x);
    size_t differ = 0;
    for (size_t t = 0; t < n; ++t) {
      double error = 0;
      for (size_t j = 0; j < 64; ++j) error = worse(error, double(std::abs(a[t * 64 + j] - b[t * 64 + j])));
      differ += error > 1e-4;
    }
    CHECK(differ <= 4);
  }
}

TEST_CASE("a linear code by hand") {
  LinearCode code;
  code.dim = 3;
  code.one_norm = GENERATE(false, true);
  code.groups = {{1, 1, {-0.5f, 0.5f}}, {1, 2, {-0.9f, -0.3f, 0.3f, 0.9f}}};
  code.mean = {1, 2, 3};
  code.forward = {0, 0, 2, 1, 0, 0};      // z = (2 (x_2 - 3), x_0 - 1); x_1 is not stored
  code.backward = {0, 1, 0, 0, 0.5f, 0};  // (3, 2)
  const LinearQuantizer quantizer(code);
  CHECK(quantizer.code_bytes() == (code.one_norm ? 3 : 5));
  const std::vector<float> x = {-3, 77, 4.5f};  // z = (3, -4), norms 3 and 4, or 5
  std::vector<uint8_t> bytes(quantizer.code_bytes());
  quantizer.encode(x.data(), 1, bytes.data());
  const size_t stream = bytes.size() - 1;
  CHECK((bytes[stream] & 1) == 1);       // 0.6 or 1: 0.5
  CHECK((bytes[stream] >> 1 & 3) == 0);  // -0.8 or -1: -0.9
  CHECK(from_half(uint16_t(bytes[0] | bytes[1] << 8)) == (code.one_norm ? 5 : 3));
  std::vector<float> y(3);
  quantizer.decode(bytes.data(), 1, y.data());
  const double length = std::hypot(0.5, 0.9);
  CHECK(y[0] == Approx(1 - (code.one_norm ? 5 * 0.9 / length : 4)));
  CHECK(y[1] == 2);
  CHECK(y[2] == Approx(3 + 0.5 * (code.one_norm ? 5 * 0.5 / length : 3)));
  // the mean itself comes back as it is
  std::vector<float> zero = code.mean;
  CHECK(round_trip(quantizer, zero) == code.mean);
}
