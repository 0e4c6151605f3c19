#include <cmath>
#include <numbers>
#include <vector>

#include "catch.h"
#include "quant/codebook.h"
#include "worse.h"

using namespace blockgtq;
using test::worse;

namespace {

// The distortion of a codebook for a coordinate of a unit vector in d dimensions by plain summation over the
// angle (density cos^(d-2)), and how far every centroid is from the mean of its cell. Nothing is shared with
// the library.
struct Measured {
  double distortion = 0, worst_centroid = 0;
};
Measured measure(int d, const std::vector<double>& centroids) {
  const int n = 400000;
  std::vector<double> mass(centroids.size()), moment(centroids.size());
  double total = 0, error = 0;
  size_t cell = 0;
  for (int i = 0; i < n; ++i) {
    const double phi = std::numbers::pi * ((i + 0.5) / n - 0.5), x = std::sin(phi),
                 w = std::pow(std::cos(phi), d - 2);
    while (cell + 1 < centroids.size() && x > 0.5 * (centroids[cell] + centroids[cell + 1])) ++cell;
    total += w;
    mass[cell] += w;
    moment[cell] += w * x;
    error += w * (x - centroids[cell]) * (x - centroids[cell]);
  }
  Measured m{d * error / total, 0};
  for (size_t j = 0; j < centroids.size(); ++j)
    m.worst_centroid = worse(m.worst_centroid, std::abs(moment[j] / mass[j] - centroids[j]) * std::sqrt(d));
  return m;
}

}  // namespace

// Converged float64 solutions for N(0, 1): Lloyd's algorithm to a fixed point, up to 141,066 steps.
TEST_CASE("in many dimensions the exact codebook is the normal one") {
  const std::vector<double> two = {0.45278003463642547, 1.5104176084989578},
                            three = {0.24509417894403832, 0.7560052812053768, 1.3439092785043167,
                                     2.151945704536316};
  const double mse[] = {0, 0.3633802276324186, 0.11748184782932909, 0.03454776078850339};
  // A coordinate of sqrt(d) times a unit vector differs from N(0, 1) by O(1 / d): x^4 has mean 3 d / (d + 2).
  const int d = 1024;
  const double tolerance = 4.0 / d;
  CHECK(exact_codebook(d, 1)[1] * std::sqrt(d) == Approx(std::sqrt(2 / std::numbers::pi)).epsilon(tolerance));
  for (int j = 0; j < 2; ++j)
    CHECK(exact_codebook(d, 2)[2 + j] * std::sqrt(d) == Approx(two[j]).epsilon(tolerance));
  for (int j = 0; j < 4; ++j)
    CHECK(exact_codebook(d, 3)[4 + j] * std::sqrt(d) == Approx(three[j]).epsilon(tolerance));
  for (int bits = 1; bits <= 3; ++bits)
    CHECK(exact_distortion(d, bits) == Approx(mse[bits]).epsilon(tolerance));
  // 8 bits, converged: 4.119e-5; the published codebook stops at 1.67e-4.
  CHECK(exact_distortion(d, 8) == Approx(4.119e-5).epsilon(0.02));
}

TEST_CASE("exact codebooks of few dimensions in closed form") {
  // d = 2: the angle is uniform. One bit: the mean of sin over half a period.
  CHECK(exact_codebook(2, 1)[1] == Approx(2 / std::numbers::pi).epsilon(1e-14));
  // d = 3: the coordinate is uniform (Archimedes), so that every cell has the same width.
  for (int bits = 1; bits <= 8; ++bits) {
    const double n = std::exp2(bits);
    const std::vector<double>& book = exact_codebook(3, bits);
    for (int j = 0; j < int(n); ++j) CHECK(book[j] == Approx((2 * j + 1) / n - 1).margin(1e-12));
    CHECK(exact_distortion(3, bits) == Approx(1 / (n * n)).epsilon(1e-8));
  }
  CHECK(exact_distortion(7, 0) == 1);
}

TEST_CASE("exact codebooks are fixed points, and better with every bit") {
  for (const int d : {2, 4, 6, 10, 32, 128, 512}) {
    double before = 1;
    for (int bits = 1; bits <= 8; ++bits) {
      CAPTURE(d, bits);
      const std::vector<double>& book = exact_codebook(d, bits);
      REQUIRE(book.size() == size_t(1) << bits);
      for (size_t j = 0; j + 1 < book.size(); ++j) REQUIRE(book[j] < book[j + 1]);
      CHECK(exact_distortion(d, bits) < before / 2);  // high resolution: a quarter
      before = exact_distortion(d, bits);
      // The sum steps by pi / 400000; a cell of the finest book that holds its share of the mass is about
      // 1 / (256 sqrt(d)) wide, so that its mean is known to a small part of that.
      const Measured m = measure(d, book);
      CHECK(m.distortion == Approx(exact_distortion(d, bits)).epsilon(2e-3));
      CHECK(m.worst_centroid < 2e-3);
    }
  }
}

TEST_CASE("the published codebook against the exact one") {
  // What 100 steps from the quantile start lose: 11, 59, 148, 306 % at 5..8 bits.
  const double loss[] = {0, 0, 0, 0, 0, 0.11, 0.59, 1.48, 3.06};
  const int d = 512;
  for (int bits = 5; bits <= 8; ++bits) {
    const double published = measure(d, unit_centroids(Codebook::reference, d, bits)).distortion;
    // in 512 dimensions, whose tails are a little shorter than the normal ones
    CHECK(published / exact_distortion(d, bits) - 1 == Approx(loss[bits]).margin(0.1));
  }
}
