#include "cache/mean_rule.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace blockgtq {
namespace {

constexpr double kRounding = 1e-5;  // relative to the largest: forward is float32

double at(const LinearCode& code, int row, int column) {
  return code.forward[size_t(row) * code.dim + column];
}

/// forward x, (n).
std::vector<double> product(const LinearCode& code, const std::vector<float>& x) {
  std::vector<double> z(code.n_coords());
  for (size_t j = 0; j < z.size(); ++j)
    for (int d = 0; d < code.dim; ++d) z[j] += at(code, int(j), d) * x[d];
  return z;
}

/// The rule in units of the largest weight. z is forward mean.
MeanRule scaled(const std::vector<double>& weights, const std::vector<double>& z) {
  double largest = 0, square = 0;
  for (const double w : weights) largest = std::max(largest, std::abs(w));
  for (const double y : z) square += y * y;
  const double unit = largest > 0 ? 1 / largest : 1;
  MeanRule rule;
  for (const double w : weights) rule.weights.push_back(float(w * unit));
  rule.limit = float(0.5 * square * unit);
  return rule;
}

}  // namespace

MeanRule key_mean_rule(const LinearCode& code, const BlockLayout& layout) {
  const int dim = code.dim, n = code.n_coords();
  std::vector<double> square(size_t(dim) * dim);  // the lower half of F^T F
  for (int j = 0; j < n; ++j)
    for (int d = 0; d < dim; ++d)
      for (int e = 0; e <= d; ++e) square[size_t(d) * dim + e] += at(code, j, d) * at(code, j, e);
  std::vector<double> diagonal;
  for (int d = 0; d < dim; ++d) diagonal.push_back(square[size_t(d) * dim + d]);
  for (int d = 0; d < dim; ++d)
    for (int e = 0; e < d; ++e)
      check(std::abs(square[size_t(d) * dim + e]) <= kRounding * std::sqrt(diagonal[d] * diagonal[e]),
            "key_mean_rule: coordinates that are not coded apart");
  for (int b = 0; b < layout.n_rotary(); ++b) {
    const auto [i, j] = layout.coords(b);
    check(std::abs(diagonal[i] - diagonal[j]) <= kRounding * std::max(diagonal[i], diagonal[j]),
          "key_mean_rule: a rotary block of two weights");
  }
  return scaled(diagonal, product(code, code.mean));
}

MeanRule value_mean_rule(const LinearCode& code) {
  const std::vector<double> z = product(code, code.mean);
  std::vector<double> weights(code.dim);
  for (size_t j = 0; j < z.size(); ++j)
    for (int d = 0; d < code.dim; ++d) weights[d] += at(code, int(j), d) * z[j];
  return scaled(weights, z);
}

}  // namespace blockgtq
