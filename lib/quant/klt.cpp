#include "quant/klt.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "quant/allocator.h"
#include "quant/cut_runs.h"
#include "quant/eigen.h"
#include "quant/group_code.h"

namespace blockgtq {

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A direction that W_o hardly reads keeps this share of the largest weight, so that S has an inverse.
constexpr double kLeastShare = 1e-10;
/// Allocation assumes the distortion of a group of this size, which is large.
constexpr int kLargeGroup = 128;

Matrix to_matrix(const std::vector<double>& values) {
  const auto d = Eigen::Index(std::lround(std::sqrt(double(values.size()))));
  check(size_t(d * d) == values.size(), "klt_basis: a matrix that is not square");
  const Matrix m = Eigen::Map<const Matrix>(values.data(), d, d);
  return 0.5 * (m + m.transpose());
}

// A basis of NaN. What is not finite on input is not finite on output; the caller knows the head.
KltBasis no_basis(size_t size) {
  const std::vector<double> none(size, std::numeric_limits<double>::quiet_NaN());
  return {{none.begin(), none.begin() + std::lround(std::sqrt(double(size)))}, none, none};
}

std::vector<double> to_vector(const Matrix& m) {
  return {m.data(), m.data() + m.size()};
}

Basis to_basis(const std::vector<double>& mean, const std::vector<double>& energy,
               const std::vector<float>& forward, const std::vector<float>& backward) {
  return {int(energy.size()),
          {mean.begin(), mean.end()},
          {forward.begin(), forward.end()},
          {backward.begin(), backward.end()},
          energy};
}

/// The code of a basis whose pairs have these bits: pairs of one width make a group.
LinearCode pair_code(const Basis& basis, std::span<const uint8_t> bits, uint64_t seed, bool one_norm,
                     Codebook codebook) {
  check(bits.size() == size_t(basis.dim / 2), "pair_code: bits of another number of pairs");
  std::vector<CoordGroup> groups;
  for (int width = 1; width <= kMaxBits; ++width) {
    CoordGroup group{{}, width, seed + uint64_t(width)};
    for (int p = 0; p < basis.dim / 2; ++p)
      if (bits[p] == width) {
        group.coords.push_back(2 * p);
        group.coords.push_back(2 * p + 1);
      }
    if (!group.coords.empty()) groups.push_back(std::move(group));
  }
  return group_code(basis, groups, one_norm, codebook);
}

}  // namespace

KltBasis klt_basis(const std::vector<double>& weight, const std::vector<double>& covariance) {
  const Matrix m = to_matrix(weight), cov = to_matrix(covariance);
  if (!m.allFinite() || !cov.allFinite()) return no_basis(covariance.size());
  const Eigen::SelfAdjointEigenSolver<Matrix> of_weight(m);
  check(of_weight.info() == Eigen::Success, "klt_basis: no eigenvalues");
  const double largest = std::max(of_weight.eigenvalues().maxCoeff(), 0.0);
  Eigen::VectorXd root = of_weight.eigenvalues();
  for (double& r : root) r = largest > 0 ? std::sqrt(std::max(r, largest * kLeastShare)) : 1;
  const Matrix& v = of_weight.eigenvectors();
  const Matrix s = v * root.asDiagonal() * v.transpose();
  const Matrix inverse = v * root.cwiseInverse().asDiagonal() * v.transpose();

  const Matrix c = s * cov * s;
  if (!c.allFinite()) return no_basis(covariance.size());
  const Eigen::SelfAdjointEigenSolver<Matrix> of_values(0.5 * (c + c.transpose()));
  check(of_values.info() == Eigen::Success, "klt_basis: no eigenvalues");
  Matrix u = of_values.eigenvectors().rowwise().reverse();  // descending
  // The sign of an eigenvector depends on the solver. We make the entry of largest magnitude (the first one)
  // positive.
  for (Eigen::Index j = 0; j < u.cols(); ++j) {
    Eigen::Index at = 0;
    u.col(j).cwiseAbs().maxCoeff(&at);
    if (u(at, j) < 0) u.col(j) *= -1;
  }
  KltBasis basis;
  for (Eigen::Index j = 0; j < u.cols(); ++j)
    basis.energy.push_back(std::max(of_values.eigenvalues()(u.cols() - 1 - j), 0.0));
  basis.forward = to_vector(u.transpose() * s);
  basis.backward = to_vector(inverse * u);
  return basis;
}

std::vector<uint8_t> allocate_by_gain(std::span<const double> pair_energy, double average_bits) {
  std::vector<uint8_t> bits(pair_energy.size());
  const auto gain = [&](size_t i) {
    return bits[i] == kMaxBits ? -1
                               : pair_energy[i] * (exact_distortion(kLargeGroup, bits[i]) -
                                                   exact_distortion(kLargeGroup, bits[i] + 1));
  };
  // As in the greedy allocator: an average such as 2.3 has no exact double.
  auto left = size_t(std::floor(double(bits.size()) * average_bits + 1e-9));
  std::vector<double> gains;
  for (size_t i = 0; i < bits.size(); ++i) gains.push_back(gain(i));
  for (; left > 0; --left) {
    const size_t best = std::max_element(gains.begin(), gains.end()) - gains.begin();  // the first of equals
    if (gains[best] < 0) break;
    ++bits[best];
    gains[best] = gain(best);
  }
  return bits;
}

std::vector<uint8_t> allocate_by_groups(std::span<const double> pair_energy, int64_t block_bits,
                                        int per_group) {
  std::vector<double> sum = {0};  // over the first pairs
  for (const double energy : pair_energy) sum.push_back(sum.back() + energy);
  RunProblem problem;
  problem.n_blocks = int(pair_energy.size());
  problem.widths = width_range(0, kMaxBits);
  problem.per_group = per_group;
  problem.max_groups = int(problem.widths.size());
  problem.error = [&](int width, int first, int end) {
    return exact_distortion(kLargeGroup, width) * (sum[end] - sum[first]);
  };
  return cut_runs(problem, std::vector<int64_t>{block_bits}).at(0).bits;
}

LinearCode klt_keys(const HeadMap& head, Codebook codebook) {
  const HeadCalibration& c = *head.calibration;
  LinearCode code = pair_code(to_basis(c.k_mean, c.k_spectrum, c.k_forward, c.k_backward), head.key_bits,
                              head.seed, false, codebook);
  code.before_rope = true;
  return code;
}

LinearCode klt_values(const HeadMap& head, Codebook codebook) {
  const HeadCalibration& c = *head.calibration;
  return pair_code(to_basis(c.v_mean, c.v_spectrum, c.v_forward, c.v_backward), head.value_bits, head.seed,
                   true, codebook);
}

}  // namespace blockgtq
