#pragma once
#include <cstdint>
#include <vector>

#include "quant/codebook.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// An invertible change of coordinates, y = forward (x - mean), and the calibrated energy of y.
struct Basis {
  int dim = 0;                   // D
  std::vector<float> mean;       // (D); empty: zero
  std::vector<double> forward;   // (D, D)
  std::vector<double> backward;  // (D, D) its inverse
  std::vector<double> energy;    // (D) E y_j^2
};

/// Coordinates of y that share a bit width and a rotation.
struct CoordGroup {
  std::vector<int> coords;  // indices into y, in stored order
  int bits = 0;
  uint64_t seed = 0;  // of the rotation
};

/// The code of these groups. Every group is rotated. There is a norm per group; with one_norm every group is
/// divided by its calibrated RMS, and the vector has one norm.
LinearCode group_code(const Basis& basis, const std::vector<CoordGroup>& groups, bool one_norm,
                      Codebook codebook);

}  // namespace blockgtq
