#include "quant/distortion.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"

namespace blockgtq {

namespace {

constexpr double kHalfPi = 1.57079632679489661923;

// Gauss-Legendre nodes and weights on (-1, 1).
constexpr std::array<std::array<double, 2>, 4> kGauss = {{{-0.86113631159405258, 0.34785484513745386},
                                                          {-0.33998104358485626, 0.65214515486254614},
                                                          {0.33998104358485626, 0.65214515486254614},
                                                          {0.86113631159405258, 0.34785484513745386}}};

// The nearest centroid, as TqMse finds it.
double nearest(std::span<const double> centroids, double y) {
  size_t code = 0;
  for (size_t step = centroids.size() / 2; step > 0; step /= 2)
    if (y > 0.5 * (centroids[code + step - 1] + centroids[code + step])) code += step;
  return centroids[code];
}

// Two dimensions: y runs over a quarter of the circle.
double planar_distortion(std::span<const double> centroids) {
  constexpr int kAngles = 1 << 14;
  double error = 0;
  for (int i = 0; i < kAngles; ++i) {
    const double angle = kHalfPi * (i + 0.5) / kAngles, y0 = std::cos(angle), y1 = std::sin(angle);
    const double c0 = nearest(centroids, y0), c1 = nearest(centroids, y1), length = std::hypot(c0, c1);
    error += (y0 - c0 / length) * (y0 - c0 / length) + (y1 - c1 / length) * (y1 - c1 / length);
  }
  return error / kAngles;
}

}  // namespace

// A coordinate of a uniform unit vector is y = cos(angle), and the angle has a density ~ sin(angle)^(d - 2).
// The integrand is smooth within every cell of the codebook. By symmetry y >= 0 is enough.
double codebook_distortion(std::span<const double> centroids, int d) {
  check(d >= 2 && centroids.size() >= 2 && std::has_single_bit(centroids.size()),
        "codebook_distortion: no such codebook");
  if (d == 2) return planar_distortion(centroids);
  const size_t half = centroids.size() / 2;
  const int panels = int(std::max<size_t>(4, 128 / half));
  const double reach = std::min(1.0, 12 / std::sqrt(double(d)));         // e^-72 of the mass lies beyond
  double mass = 0, error = 0, c2 = 0, y2 = 0, c4 = 0, c2y2 = 0, y4 = 0;  // moments of a coordinate
  for (size_t j = 0; j < half; ++j) {
    const double c = centroids[half + j];
    const double low = j == 0 ? 0 : 0.5 * (centroids[half + j - 1] + c);
    const double high = j + 1 == half ? reach : 0.5 * (c + centroids[half + j + 1]);
    if (low >= reach) break;
    const double from = std::acos(std::min(high, reach)), to = std::acos(low);
    const int n = j + 1 == half ? 16 * panels : panels;  // the tail is the widest cell
    const double width = (to - from) / n;
    for (int p = 0; p < n; ++p)
      for (const auto& [node, weight] : kGauss) {
        const double angle = from + (p + 0.5 + 0.5 * node) * width, y = std::cos(angle);
        const double w = weight * width * std::exp((d - 2) * std::log(std::sin(angle)));
        mass += w;
        error += w * (y - c) * (y - c);
        c2 += w * c * c;
        y2 += w * y * y;
        c4 += w * c * c * c * c;
        c2y2 += w * c * c * y * y;
        y4 += w * y * y * y * y;
      }
  }
  for (double* moment : {&error, &c2, &y2, &c4, &c2y2, &y4}) *moment /= mass;
  error *= d;                    // E|y - y_hat|^2
  const double length = d * c2;  // E|y_hat|^2
  // Norm correction removes the error along y: |y - y_hat / |y_hat||^2 is (|y - y_hat|^2 - (1 - |y_hat|)^2) /
  // |y_hat|. |y_hat|^2 is a sum of c^2 over coordinates whose y^2 add up to 1. So its variance is what
  // remains of the variance of c^2 after regression on y^2.
  const double covariance = c2y2 - c2 * y2;
  const double variance = d * (c4 - c2 * c2 - covariance * covariance / (y4 - y2 * y2));
  const double root = std::sqrt(length);
  return (error - (1 - root) * (1 - root) - variance / (4 * length)) / root;
}

Distortion Distortion::power_law() {
  return Distortion();
}

Distortion Distortion::of_codebook(Codebook codebook, int max_blocks) {
  Distortion distortion;
  distortion.table_.resize(size_t(max_blocks) * kMaxBits);
  parallel_for(distortion.table_.size(), [&](size_t i) {
    const int n_blocks = 1 + int(i) / kMaxBits, bits = 1 + int(i) % kMaxBits;
    distortion.table_[i] = codebook_distortion(unit_centroids(codebook, 2 * n_blocks, bits), 2 * n_blocks);
  });
  return distortion;
}

double Distortion::operator()(int bits, int n_blocks) const {
  if (table_.empty()) return std::ldexp(1.0, -2 * bits);
  const size_t at = size_t(n_blocks - 1) * kMaxBits + (bits - 1);
  check(bits >= 1 && bits <= kMaxBits && n_blocks >= 1 && at < table_.size(),
        "Distortion: outside of its table");
  return table_[at];
}

}  // namespace blockgtq
