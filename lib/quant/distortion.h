#pragma once
#include <span>
#include <vector>

#include "quant/codebook.h"

namespace blockgtq {

/// D(b, d) = E|x - x_hat|^2 / |x|^2: the error of TqMse at b bits in d dimensions, averaged over rotations.
class Distortion {
 public:
  /// 4^-b in every dimension, which the published score assumes.
  static Distortion power_law();
  /// That of a codebook, tabulated for groups of 1 to max_blocks blocks.
  static Distortion of_codebook(Codebook codebook, int max_blocks);

  double operator()(int bits, int n_blocks) const;  // d = 2 * n_blocks

 private:
  std::vector<double> table_;  // (max_blocks, kMaxBits); empty: the power law
};

/// D of one codebook: centroids (2^b), ascending and symmetric, for the coordinates of a unit vector in d >=
/// 2 dimensions. Exact at d = 2; above, it treats coordinates as independent.
double codebook_distortion(std::span<const double> centroids, int d);

}  // namespace blockgtq
