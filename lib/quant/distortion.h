#pragma once
#include <span>
#include <vector>

#include "quant/codebook.h"

namespace blockgtq {

/// D(b, d): the error E|x - x_hat|^2 / |x|^2 that TqMse makes at b bits in d dimensions, averaged over
/// rotations.
class Distortion {
 public:
  /// 4^-b in every dimension: what the published score takes it to be.
  static Distortion power_law();
  /// A codebook's, for groups of 1 to max_blocks blocks.
  static Distortion of_codebook(Codebook codebook, int max_blocks);

  double operator()(int bits, int n_blocks) const;  // d = 2 * n_blocks

 private:
  std::vector<double> table_;  // (max_blocks, kMaxBits); empty: the power law
};

/// D of one codebook: centroids (2^b) ascending and symmetric, as they are compared with the coordinates of a
/// unit vector in d >= 2 dimensions. Exact at d = 2; above, coordinates are taken as independent.
double codebook_distortion(std::span<const double> centroids, int d);

}  // namespace blockgtq
