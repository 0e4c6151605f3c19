#include <algorithm>
#include <cmath>
#include <vector>

#include "base/float16.h"
#include "catch.h"
#include "gaussian.h"
#include "quant/block_gtq.h"
#include "quant/centred.h"
#include "quant/linear_quantizer.h"
#include "quant/packing.h"
#include "quant/random.h"
#include "worse.h"

using namespace blockgtq;
using test::gaussian;
using test::worse;

namespace {

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

namespace {

/// Eight coordinates as they are, two bits each.
LinearCode plain_code() {
  LinearCode code;
  code.dim = 8;
  code.one_norm = true;
  code.groups = {{8, 2, {-0.53f, -0.16f, 0.16f, 0.53f}}};
  code.forward.resize(64);
  for (size_t j = 0; j < 8; ++j) code.forward[j * 8 + j] = 1;
  code.backward = code.forward;
  return code;
}

double distance(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t j = 0; j < n; ++j) sum += (double(a[j]) - b[j]) * (double(a[j]) - b[j]);
  return sum;
}

}  // namespace

TEST_CASE("a vector takes the fallback where it errs less") {
  LinearCode code = plain_code();
  code.mean.assign(8, 50);
  const LinearQuantizer centred(code), plain(plain_code());
  const LinearQuantizer both(with_fallback(code, plain_code(), {}));
  CHECK(both.code_bytes() == centred.code_bytes());  // the sign of the norm is free
  std::vector<float> x = gaussian(8 * 40, 9);
  for (size_t t = 0; t < 40; t += 2)
    for (size_t j = 0; j < 8; ++j) x[t * 8 + j] += 50;  // every other one is near the mean
  const auto a = round_trip(centred, x), b = round_trip(plain, x), c = round_trip(both, x);
  std::vector<uint8_t> codes(both.code_bytes(40));
  both.encode(x.data(), 40, codes.data());
  for (size_t t = 0; t < 40; ++t) {
    CHECK(((codes[t * both.code_bytes() + 1] & 0x80) != 0) == (t % 2 == 1));
    const double best = std::min(distance(&a[t * 8], &x[t * 8], 8), distance(&b[t * 8], &x[t * 8], 8));
    CHECK(distance(&c[t * 8], &x[t * 8], 8) == best);
  }
}

TEST_CASE("the choice of the fallback goes by the weighted error") {
  LinearCode code = plain_code();
  code.groups[0].bits = 1;
  code.groups[0].centroids = {-0.35f, 0.35f};
  LinearCode other = code;  // the same but for its first coordinate, which it turns over
  other.forward[0] = -1;    // and back wrongly
  std::vector<float> x(8, 1.0f);
  x[1] = 1.5f;
  const auto first_error = [&](std::vector<float> weight) {
    return std::abs(round_trip(LinearQuantizer(with_fallback(code, other, std::move(weight))), x)[0] - 1);
  };
  CHECK(first_error({}) < 0.2);
  CHECK(first_error({0, 1, 1, 1, 1, 1, 1, 1}) < 0.2);  // equal errors: the code itself
  std::swap(code, other);
  CHECK(first_error({}) < 0.2);
  CHECK(first_error({0, 1, 1, 1, 1, 1, 1, 1}) > 1.8);
}

TEST_CASE("norms of a fallback are counted where they were cut") {
  LinearCode code = plain_code();
  code.mean.assign(8, -1e5f);
  const LinearQuantizer both(with_fallback(code, plain_code(), {}));
  std::vector<float> x(16, 3e4f);  // |x| = 84853 beyond fp16, and 367696 with the mean taken off
  std::fill(x.begin() + 8, x.end(), 1.0f);
  std::vector<uint8_t> codes(both.code_bytes(2));
  both.encode(x.data(), 2, codes.data());
  CHECK((codes[1] & 0x80) != 0);
  CHECK(both.clipped(codes.data(), 2) == 1);
}

TEST_CASE("a vector whose z is shorter with its mean keeps it") {
  LinearCode plain = plain_code();
  plain.forward[0] = 10;  // z_0 = 10 x_0: what decides is not the nearness of x itself
  plain.backward[0] = 0.1f;
  LinearCode code = plain;
  code.mean.assign(8, 10);
  code.mean_flag = true;
  const LinearQuantizer quantizer(code), without(plain);
  CHECK(quantizer.code_bytes() == without.code_bytes());     // the sign of the norm is free
  std::vector<float> x(8 * 3);                               // the last one zero
  x[0] = 9;                                                  // |z|^2 = 8100, with the mean off 100 + 700
  for (size_t j = 0; j < 8; ++j) x[8 + j] = j == 0 ? 1 : 9;  // 100 + 567, with the mean off 8100 + 7
  std::vector<float> less = x;
  for (size_t j = 0; j < 8; ++j) less[j] -= 10;
  const auto a = round_trip(quantizer, x), b = round_trip(without, less);
  for (size_t j = 0; j < 8; ++j) CHECK(a[j] == b[j] + 10);
  CHECK(std::equal(a.begin() + 8, a.end(), b.begin() + 8));
  std::vector<uint8_t> codes(quantizer.code_bytes(3));
  quantizer.encode(x.data(), 3, codes.data());
  for (size_t t = 0; t < 3; ++t) CHECK(((codes[t * quantizer.code_bytes() + 1] & 0x80) != 0) == (t > 0));
  CHECK_THROWS_AS(LinearQuantizer(with_fallback(code, plain, {})), std::logic_error);
  code.mean.clear();
  CHECK_THROWS_AS(LinearQuantizer(code), std::logic_error);
}

TEST_CASE("the nearest centre is taken off and put back") {
  LinearCode code = plain_code();
  code.mean.assign(8, 1);
  code.centres.assign(4 * 8, 0);
  for (size_t c = 0; c < 4; ++c) code.centres[c * 8 + c] = 100;
  const LinearQuantizer quantizer(code), without(plain_code());
  CHECK(quantizer.code_bytes() == 5);  // norm, 16 bits, 2 bits of the centre
  std::vector<float> x = gaussian(8 * 12, 4), offset = x;
  for (size_t t = 0; t < 12; ++t) {
    for (size_t j = 0; j < 8; ++j) x[t * 8 + j] += 1;
    x[t * 8 + t % 4] += 100;
  }
  const auto a = round_trip(quantizer, x), b = round_trip(without, offset);
  for (size_t t = 0; t < 12; ++t)
    for (size_t j = 0; j < 8; ++j)
      CHECK(a[t * 8 + j] == Approx(b[t * 8 + j] + 1 + 100 * (j == t % 4)).margin(1e-4));
}

TEST_CASE("a vector that is nearer to zero than to its centre keeps it") {
  LinearCode code = plain_code();
  code.centres.assign(4 * 8, 0);
  for (size_t c = 0; c < 4; ++c) code.centres[c * 8 + c] = 100;
  LinearCode flagged = code;
  flagged.mean_flag = true;
  const LinearQuantizer quantizer(flagged), always(code), without(plain_code());
  CHECK(quantizer.code_bytes() == always.code_bytes());
  std::vector<float> x = gaussian(8 * 2, 4);
  x[2] += 100;  // the first has a centre, the second does not
  const auto a = round_trip(quantizer, x), b = round_trip(always, x), c = round_trip(without, x);
  CHECK(std::equal(a.begin(), a.begin() + 8, b.begin()));
  CHECK(std::equal(a.begin() + 8, a.end(), c.begin() + 8));
}

TEST_CASE("trellis codes take the bytes of scalar ones and two thirds of their error") {
  const int bits = GENERATE(2, 3, 4);
  const LinearCode scalar = *UniformTqMse(64, bits).linear_code();
  const LinearQuantizer a(scalar), b(with_trellis(scalar));
  CHECK(a.code_bytes() == b.code_bytes());
  const auto x = gaussian(64 * 300, 2);
  const double ratio = distance(round_trip(b, x).data(), x.data(), x.size()) /
                       distance(round_trip(a, x).data(), x.data(), x.size());
  CHECK(ratio < 0.68);
}

// Each group's error is compared with that of its scalar code, and keys are such that both count alike.
TEST_CASE("trellis codes of short groups gain as well, since all groups are one stream") {
  const BlockLayout layout{64, 64, Pairing::half};
  std::vector<uint8_t> bits(32, 2);  // groups of 40, 14 and 10 coordinates
  std::fill_n(bits.begin(), 7, uint8_t(3));
  std::fill_n(bits.begin() + 7, 5, uint8_t(4));
  const BlockGtq scalar(layout, bits);
  const LinearQuantizer trellis(with_trellis(*scalar.linear_code()));
  CHECK(trellis.code_bytes() == scalar.code_bytes());
  const size_t n = 600;
  auto x = gaussian(64 * n, 4);
  for (size_t t = 0; t < n; ++t)
    for (const CodeGroup& group : scalar.groups())
      for (const int c : group.coords) x[t * 64 + size_t(c)] *= std::exp2f(float(group.tq->bits()));
  const auto a = round_trip(scalar, x), b = round_trip(trellis, x);
  for (const CodeGroup& group : scalar.groups()) {
    double of_a = 0, of_b = 0;
    for (size_t t = 0; t < n; ++t)
      for (const int c : group.coords) {
        const size_t i = t * 64 + size_t(c);
        of_a += std::pow(double(a[i]) - x[i], 2), of_b += std::pow(double(b[i]) - x[i], 2);
      }
    INFO(group.coords.size() << " coordinates of " << group.tq->bits() << " bits");
    CHECK(of_b / of_a < 0.75);
  }
}

TEST_CASE("groups too short or too wide for a trellis stay scalar") {
  LinearCode code = plain_code();
  CHECK_FALSE(with_trellis(code).groups[0].trellis);  // 8 coordinates
  code = *UniformTqMse(64, 6).linear_code();
  CHECK_FALSE(with_trellis(code).groups[0].trellis);
  code = with_fallback(*UniformTqMse(64, 3).linear_code(), *UniformTqMse(64, 2).linear_code(), {});
  CHECK(with_trellis(code).groups[0].trellis);
  CHECK(with_trellis(code).fallback->groups[0].trellis);
}
