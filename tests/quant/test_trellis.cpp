#include "quant/trellis.h"

#include <cmath>
#include <vector>

#include "catch.h"
#include "gaussian.h"
#include "quant/codebook.h"
#include "quant/random.h"

using namespace blockgtq;
using test::gaussian;

namespace {

/// The error of one vector's codes.
double error(const float* y, std::span<const uint8_t> codes, int bits) {
  std::vector<uint8_t> windows(codes.size());
  trellis_windows(codes, bits, windows.data());
  double sum = 0;
  for (size_t j = 0; j < codes.size(); ++j) {
    const double e = double(y[j]) - trellis_table(bits)[windows[j]];
    sum += e * e;
  }
  return sum;
}

}  // namespace

TEST_CASE("a window is the end of the stream up to its coordinate") {
  const int bits = GENERATE(1, 2, 3, 4, 5);
  const size_t d = GENERATE(16, 17, 64);
  Random random(3);
  std::vector<uint8_t> codes(d), windows(d);
  for (uint8_t& c : codes) c = uint8_t(random.next_u64() & ((1u << bits) - 1));
  trellis_windows(codes, bits, windows.data());
  std::vector<int> stream;  // bit by bit, the first code's lowest first
  for (const uint8_t c : codes)
    for (int i = 0; i < bits; ++i) stream.push_back(c >> i & 1);
  for (size_t j = 0; j < d; ++j) {
    unsigned expected = 0;
    for (int i = 0; i < kTrellisWindow; ++i) {
      const size_t at =
          ((j + 1) * size_t(bits) + stream.size() - size_t(kTrellisWindow) + size_t(i)) % stream.size();
      expected |= unsigned(stream[at]) << i;
    }
    REQUIRE(windows[j] == expected);
  }
}

// Least squares of normal numbers, 64 coordinates a stream, window 8: 0.290, 0.0796, 0.0217 and 0.00614 at 1
// to 4 bits for a table that starts from normal numbers. Scalar codes: 0.363, 0.1175, 0.0345, 0.00950.
TEST_CASE("the error of normal numbers") {
  struct Row {
    int bits;
    double most;
  };
  const Row row = GENERATE(Row{1, 0.290}, Row{2, 0.0780}, Row{3, 0.0204}, Row{4, 0.00565}, Row{5, 0.00156});
  constexpr size_t n = 512, d = 64;
  const std::vector<float> y = gaussian(n * d, 11);
  std::vector<uint8_t> codes(n * d);
  trellis_encode(y.data(), n, d, row.bits, trellis_table(row.bits), codes.data());
  double sum = 0;
  for (size_t v = 0; v < n; ++v) sum += error(&y[v * d], {&codes[v * d], d}, row.bits);
  CHECK(sum / double(n * d) < row.most);
  CHECK(sum / double(n * d) < 0.81 * exact_distortion(128, row.bits));
}

TEST_CASE("no other stream with the same seam is nearer") {
  constexpr size_t d = 16;
  constexpr int kSeamBits = kTrellisWindow - 1;  // at one bit the last seven codes
  const std::vector<float> y = gaussian(20 * d, 5);
  for (size_t v = 0; v < 20; ++v) {
    std::vector<uint8_t> found(d), other(d);
    trellis_encode(&y[v * d], 1, d, 1, trellis_table(1), found.data());
    const double least = error(&y[v * d], found, 1);
    other = found;
    for (unsigned stream = 0; stream < 1u << (d - kSeamBits); ++stream) {
      for (size_t j = 0; j < d - kSeamBits; ++j) other[j] = uint8_t(stream >> j & 1);
      REQUIRE(error(&y[v * d], other, 1) > least - 1e-4);
    }
  }
}

TEST_CASE("the codes of a vector do not depend on its neighbours") {
  constexpr size_t n = 21, d = 20;
  const int bits = GENERATE(1, 3, 5);
  const std::vector<float> y = gaussian(n * d, 8);
  std::vector<uint8_t> all(n * d, 0xaa), one(d);
  trellis_encode(y.data(), n, d, bits, trellis_table(bits), all.data());
  for (size_t v = 0; v < n; ++v) {
    trellis_encode(&y[v * d], 1, d, bits, trellis_table(bits), one.data());
    REQUIRE(std::equal(one.begin(), one.end(), all.begin() + std::ptrdiff_t(v * d)));
  }
}
