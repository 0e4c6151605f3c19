#include "quant/k_means.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "quant/product.h"
#include "quant/random.h"

namespace blockgtq {
namespace {

constexpr int kRounds = 30;
constexpr uint64_t kSeed = 42;

/// Adds in kLanes interleaved chains, in a fixed order.
float squared_distance(const float* a, const float* b, size_t dim) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> part{};
  size_t j = 0;
  for (; j + kLanes <= dim; j += kLanes)
    for (size_t l = 0; l < kLanes; ++l) part[l] += (a[j + l] - b[j + l]) * (a[j + l] - b[j + l]);
  for (; j < dim; ++j) part[0] += (a[j] - b[j]) * (a[j] - b[j]);
  return std::accumulate(part.begin(), part.end(), 0.0f);
}

std::vector<float> first_centres(std::span<const float> x, size_t dim, size_t m) {
  const size_t n = x.size() / dim;
  Random random(kSeed);
  std::vector<double> distance(n, INFINITY);  // from every point to its nearest centre
  std::vector<float> centres;
  auto next = size_t(random.next_double() * double(n));
  while (true) {
    centres.insert(centres.end(), &x[next * dim], &x[next * dim] + dim);
    if (centres.size() == m * dim) return centres;
    double sum = 0;
    for (size_t i = 0; i < n; ++i) {
      distance[i] = std::min(distance[i], double(squared_distance(&x[i * dim], &x[next * dim], dim)));
      sum += distance[i];
    }
    const double target = random.next_double() * sum;
    double reached = 0;
    for (next = 0; next + 1 < n; ++next)
      if ((reached += distance[next]) > target) break;
  }
}

}  // namespace

std::vector<size_t> nearest_centres(std::span<const float> x, int d, std::span<const float> centres) {
  const auto dim = size_t(d);
  const size_t n = x.size() / dim, m = centres.size() / dim;
  std::vector<float> products(n * m);  // x . c
  multiply_transposed(x.data(), n, d, centres.data(), int(m), products.data());
  std::vector<double> squares(m);
  for (size_t c = 0; c < m; ++c)
    for (size_t j = 0; j < dim; ++j) squares[c] += double(centres[c * dim + j]) * centres[c * dim + j];
  std::vector<size_t> nearest(n);
  for (size_t i = 0; i < n; ++i) {
    double least = INFINITY;
    for (size_t c = 0; c < m; ++c)
      if (const double d = squares[c] - 2.0 * products[i * m + c]; d < least) least = d, nearest[i] = c;
  }
  return nearest;
}

std::vector<float> k_means(std::span<const float> x, int dim, int m) {
  const auto d = size_t(dim);
  check(dim >= 1 && m >= 1 && !x.empty() && x.size() % d == 0, "k_means: no points, or no centres");
  std::vector<float> centres = first_centres(x, d, size_t(m));
  std::vector<size_t> nearest;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<size_t> now = nearest_centres(x, dim, centres);
    if (now == nearest) break;
    nearest = std::move(now);
    std::vector<double> sum(centres.size()), count(static_cast<size_t>(m));
    for (size_t i = 0; i < nearest.size(); ++i) {
      ++count[nearest[i]];
      double* to = &sum[nearest[i] * d];
      const float* from = &x[i * d];
      for (size_t j = 0; j < d; ++j) to[j] += from[j];
    }
    for (size_t c = 0; c < size_t(m); ++c)
      for (size_t j = 0; count[c] > 0 && j < d; ++j) centres[c * d + j] = float(sum[c * d + j] / count[c]);
  }
  return centres;
}

}  // namespace blockgtq
