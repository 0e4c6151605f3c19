#pragma once
#include <vector>

#include "quant/linear_code.h"

namespace blockgtq {

/// Decides which centre m_i a value x in pages has: the one with the least |m_i|^2 / 2 - m_i . x, the lowest
/// number on ties. That is the nearest one, and F (x - m_i) is shortest, since F^T F is a multiple of the
/// identity. The sum is float32, coordinate by coordinate with one rounding each, so that kernels
/// (kernels/cache/nearest_centre.cuh) make the same choice to the last bit.
struct CentreRule {
  int dim = 0;
  std::vector<float> centres;  // (M, D): fp16 numbers
  std::vector<float> limits;   // (M): |m_i|^2 / 2

  /// check()s that the code has up to kMostCentres centres, no mean, and such an F.
  explicit CentreRule(const LinearCode& value);

  struct Choice {
    int centre = 0;
    bool keeps = false;  // nearer to zero than to the centre, which is then not subtracted
  };
  /// x (D).
  Choice choose(const float* x) const;
};

}  // namespace blockgtq
