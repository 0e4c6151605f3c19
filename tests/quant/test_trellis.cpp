#include "quant/trellis.h"

#include <cmath>
#include <utility>
#include <vector>

#include "catch.h"
#include "gaussian.h"
#include "quant/codebook.h"
#include "quant/random.h"

using namespace blockgtq;
using test::gaussian;

namespace {

/// A stream of these runs (coordinates, bits), weighed as their errors are rare.
std::vector<TrellisRun> stream_of(const std::vector<std::pair<int, int>>& runs) {
  std::vector<TrellisRun> stream;
  for (const auto& [d, bits] : runs)
    stream.push_back(
        {d, bits, trellis_table(bits).data(), trellis_weight(1, bits) / trellis_weight(1, runs[0].second)});
  return stream;
}

/// The weighted error of one vector's codes.
double error(const float* y, std::span<const uint8_t> codes, std::span<const TrellisRun> runs) {
  std::vector<uint8_t> windows(codes.size());
  trellis_windows(codes, runs, windows.data());
  double sum = 0;
  size_t j = 0;
  for (const TrellisRun& run : runs)
    for (int i = 0; i < run.d; ++i, ++j)
      sum += run.weight * std::pow(double(y[j]) - run.table[windows[j]], 2);
  return sum;
}

}  // namespace

TEST_CASE("a window is the end of the stream up to its coordinate") {
  using Runs = std::vector<std::pair<int, int>>;
  const auto runs = stream_of(GENERATE(Runs{{16, 1}}, Runs{{17, 2}}, Runs{{64, 3}}, Runs{{16, 4}},
                                       Runs{{17, 5}}, Runs{{2, 1}, {3, 4}, {12, 5}}));
  Random random(3);
  std::vector<uint8_t> codes;
  std::vector<int> stream;   // bit by bit, the first code's lowest first
  std::vector<size_t> ends;  // in it, of every coordinate
  for (const TrellisRun& run : runs)
    for (int j = 0; j < run.d; ++j) {
      codes.push_back(uint8_t(random.next_u64() & ((1u << run.bits) - 1)));
      for (int i = 0; i < run.bits; ++i) stream.push_back(codes.back() >> i & 1);
      ends.push_back(stream.size());
    }
  std::vector<uint8_t> windows(codes.size());
  trellis_windows(codes, runs, windows.data());
  for (size_t j = 0; j < codes.size(); ++j) {
    unsigned expected = 0;
    for (int i = 0; i < kTrellisWindow; ++i) {
      const size_t at = (ends[j] + stream.size() - size_t(kTrellisWindow) + size_t(i)) % stream.size();
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
  const auto runs = stream_of({{int(d), row.bits}});
  trellis_encode(y.data(), n, runs, codes.data());
  double sum = 0;
  for (size_t v = 0; v < n; ++v) sum += error(&y[v * d], {&codes[v * d], d}, runs);
  CHECK(sum / double(n * d) < row.most);
  CHECK(sum / double(n * d) < 0.81 * exact_distortion(128, row.bits));
}

// As a stream of their own 16 coordinates have 0.107 at 2 bits and 0.0245 at 3, since a stream errs where it
// closes; 64 have 0.0766 and 0.0197.
TEST_CASE("runs of other bits make one stream, whose short runs err as long ones do") {
  constexpr size_t n = 512, d = 48;
  const std::vector<float> y = gaussian(n * d, 12);
  std::vector<uint8_t> codes(n * d), windows(d);
  const auto runs = stream_of({{16, 2}, {6, 3}, {26, 4}});
  trellis_encode(y.data(), n, runs, codes.data());
  double sum[3] = {};
  for (size_t v = 0; v < n; ++v) {
    trellis_windows({&codes[v * d], d}, runs, windows.data());
    size_t j = 0;
    for (size_t r = 0; r < runs.size(); ++r)
      for (int i = 0; i < runs[r].d; ++i, ++j)
        sum[r] += std::pow(double(y[v * d + j]) - runs[r].table[windows[j]], 2) / double(n) / runs[r].d;
  }
  for (size_t r = 0; r < runs.size(); ++r) {
    INFO(runs[r].bits << " bits: " << sum[r]);
    CHECK(sum[r] < 0.81 * exact_distortion(128, runs[r].bits));
  }
}

TEST_CASE("no other stream with the same seam is nearer") {
  constexpr size_t d = 16;
  const auto runs = stream_of({{int(d), 1}});
  constexpr int kSeamBits = kTrellisWindow - 1;  // at one bit the last seven codes
  const std::vector<float> y = gaussian(20 * d, 5);
  for (size_t v = 0; v < 20; ++v) {
    std::vector<uint8_t> found(d), other(d);
    trellis_encode(&y[v * d], 1, runs, found.data());
    const double least = error(&y[v * d], found, runs);
    other = found;
    for (unsigned stream = 0; stream < 1u << (d - kSeamBits); ++stream) {
      for (size_t j = 0; j < d - kSeamBits; ++j) other[j] = uint8_t(stream >> j & 1);
      REQUIRE(error(&y[v * d], other, runs) > least - 1e-4);
    }
  }
}

TEST_CASE("the codes of a vector do not depend on its neighbours") {
  constexpr size_t n = 21, d = 20;
  const auto runs = GENERATE(stream_of({{20, 1}}), stream_of({{20, 5}}), stream_of({{4, 2}, {16, 3}}));
  const std::vector<float> y = gaussian(n * d, 8);
  std::vector<uint8_t> all(n * d, 0xaa), one(d);
  trellis_encode(y.data(), n, runs, all.data());
  for (size_t v = 0; v < n; ++v) {
    trellis_encode(&y[v * d], 1, runs, one.data());
    REQUIRE(std::equal(one.begin(), one.end(), all.begin() + std::ptrdiff_t(v * d)));
  }
}
