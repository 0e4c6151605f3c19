#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/float16.h"
#include "base/parallel.h"
#include "catch.h"
#include "quant/codebook.h"
#include "quant/random.h"
#include "quant/rotation.h"
#include "quant/tq_mse.h"

using namespace blockgtq;

namespace {

std::vector<float> gaussian(size_t n, uint64_t seed, double scale = 1) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = float(scale * random.standard_normal());
  return x;
}

double relative_mse(const std::vector<float>& x, const std::vector<float>& y) {
  double error = 0, energy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += (double(x[i]) - y[i]) * (double(x[i]) - y[i]);
    energy += double(x[i]) * x[i];
  }
  return error / energy;
}

std::vector<float> round_trip(const TqMse& tq, const std::vector<float>& x) {
  const size_t n = x.size() / tq.dim();
  std::vector<uint8_t> codes(x.size());
  std::vector<uint16_t> norms(n);
  std::vector<float> y(x.size());
  tq.encode(x.data(), n, codes.data(), norms.data());
  tq.decode(codes.data(), norms.data(), n, y.data());
  return y;
}

}  // namespace

// A Lloyd-Max quantizer has E[y c(y)] = E[c(y)^2] = 1 - D. With both vectors brought to length one their
// cosine is sqrt(1 - D) and the error 2 - 2 sqrt(1 - D). Coordinates of a random unit vector in d dimensions
// have the fourth moment 3 (1 - 2 / (d + 2)) instead of 3: lighter tails, hence a smaller error, by at most
// about 6/d of it up to 4 bits. Sampling adds less than 0.3 % (2^18 coordinates).
TEST_CASE("the distortion approaches Lloyd-Max as the dimension grows") {
  const double lloyd_max[] = {0.3634, 0.1175, 0.03454, 0.009497};
  for (const int d : {128, 512})
    for (int bits = 1; bits <= 4; ++bits) {
      const auto x = gaussian((size_t(1) << 18) / d * d, 7);
      const double expected = 2 - 2 * std::sqrt(1 - lloyd_max[bits - 1]);
      INFO("d " << d << " bits " << bits);
      CHECK(relative_mse(x, round_trip(TqMse(d, bits, 42), x)) == Approx(expected).epsilon(6.0 / d + 0.003));
    }
}

TEST_CASE("more bits, less error, down to what eight bits can do") {
  const auto x = gaussian(64 * 256, 8);
  double last = 1;
  for (int bits = 1; bits <= 8; ++bits) {
    const double mse = relative_mse(x, round_trip(TqMse(64, bits, 42), x));
    CHECK(mse < 0.6 * last);
    last = mse;
  }
  CHECK(last < 2e-4);
}

// The definition in double precision: codes may differ only where a coordinate lies within float32's rounding
// of a boundary. |y_j| <= 1 and sums of d <= 130 terms: errors stay below 130 * 2^-24 * max|partial sum| <
// 1e-5.
TEST_CASE("encode and decode against the definition in double") {
  for (const int d : {2, 6, 64, 130})
    for (int bits = 1; bits <= 8; ++bits) {
      const uint64_t seed = 42 + bits;
      const int n = 40;
      const auto x = gaussian(size_t(n) * d, 100 + d, 3.5);
      const TqMse tq(d, bits, seed);
      std::vector<uint8_t> codes(x.size());
      std::vector<uint16_t> norms(n);
      std::vector<float> back(x.size());
      tq.encode(x.data(), n, codes.data(), norms.data());
      tq.decode(codes.data(), norms.data(), n, back.data());

      const auto rotation = haar_rotation(d, seed);
      const auto& book = normal_codebook(bits);
      for (int t = 0; t < n; ++t) {
        double r = 0;
        for (int j = 0; j < d; ++j) r += double(x[t * d + j]) * x[t * d + j];
        r = std::sqrt(r);
        REQUIRE(norms[t] == to_half(float(r)));
        double length = 0;
        for (int j = 0; j < d; ++j) {
          double y = 0;
          for (int i = 0; i < d; ++i) y += rotation[size_t(j) * d + i] * x[t * d + i] / r;
          const auto distance = [&](size_t c) { return std::abs(y - book[c] / std::sqrt(double(d))); };
          size_t nearest = 0;
          for (size_t c = 1; c < book.size(); ++c)
            if (distance(c) < distance(nearest)) nearest = c;
          REQUIRE(distance(codes[t * d + j]) <= distance(nearest) + 2e-5);
          length += book[codes[t * d + j]] * book[codes[t * d + j]];
        }
        const double scale = from_half(norms[t]) / std::sqrt(length);
        double norm_back = 0;
        for (int i = 0; i < d; ++i) {
          double z = 0;
          for (int j = 0; j < d; ++j) z += rotation[size_t(j) * d + i] * book[codes[t * d + j]] * scale;
          REQUIRE(std::abs(back[t * d + i] - z) < 1e-5 * r);
          norm_back += double(back[t * d + i]) * back[t * d + i];
        }
        REQUIRE(std::sqrt(norm_back) == Approx(from_half(norms[t])).epsilon(1e-5));
      }
    }
}

TEST_CASE("zero vectors stay zero, also between others") {
  const int d = 64;
  auto x = gaussian(3 * d, 9);
  std::fill(x.begin() + d, x.begin() + 2 * d, 0.0f);
  const auto y = round_trip(TqMse(d, 3, 42), x);
  for (int j = 0; j < d; ++j) CHECK(y[d + j] == 0);
  CHECK(y[0] != 0);
  CHECK(y[2 * d] != 0);
}

TEST_CASE("norms at the ends of fp16") {
  const TqMse tq(2, 4, 42);
  uint8_t codes[2];
  uint16_t norm;
  const auto stored = [&](float x) {
    const float v[2] = {x, 0};
    tq.encode(v, 1, codes, &norm);
    return from_half(norm);
  };
  CHECK(stored(65504) == 65504);
  CHECK(stored(65519) == 65504);
  CHECK(stored(65520) == 65504);  // would round to infinity
  CHECK(stored(3e38f) == 65504);
  CHECK(stored(0x1p-24f) == 0x1p-24f);  // the smallest fp16 above zero
  CHECK(stored(0x1p-26f) == 0);
  float back[2] = {1, 1};
  tq.decode(codes, &norm, 1, back);
  CHECK(back[0] == 0);
  CHECK(back[1] == 0);
  CHECK(stored(1e-45f) == 0);  // a denormal float: its direction is still a code
}

TEST_CASE("what is not finite is no code") {
  const TqMse tq(2, 4, 42);
  uint8_t codes[2];
  uint16_t norm;
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    const float v[2] = {1, bad};
    try {
      tq.encode(v, 1, codes, &norm);
      FAIL("a code of what is not finite");
    } catch (const Error& e) {
      CHECK(e.code == Exit::nonfinite);
    }
  }
}

TEST_CASE("codes depend neither on the batch nor on the threads") {
  const int d = 90, n = 600;  // two and a bit of the encoder's tiles
  const auto x = gaussian(size_t(n) * d, 10);
  const TqMse tq(d, 5, 47);
  std::vector<uint8_t> whole(x.size()), pieces(x.size());
  std::vector<uint16_t> norms(n), piece_norms(n);
  std::vector<float> back(x.size()), piece_back(x.size());
  tq.encode(x.data(), n, whole.data(), norms.data());
  tq.decode(whole.data(), norms.data(), n, back.data());
  for (const size_t piece : {1, 7, 255, 256, 257}) {
    set_threads(4);
    parallel_for((n + piece - 1) / piece, [&](size_t i) {
      const size_t first = i * piece, count = std::min(piece, n - first);
      tq.encode(&x[first * d], count, &pieces[first * d], &piece_norms[first]);
      tq.decode(&pieces[first * d], &piece_norms[first], count, &piece_back[first * d]);
    });
    set_threads(0);
    CHECK(pieces == whole);
    CHECK(piece_norms == norms);
    CHECK(piece_back == back);
  }
}
