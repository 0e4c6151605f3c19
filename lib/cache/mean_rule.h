#pragma once
#include <vector>

#include "base/blocks.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// Decides, without computing z, whether a vector x of a head keeps its mean m in pages
/// (LinearCode::mean_flag): |F x|^2 < |F (x - m)|^2 holds where (F^T F m) . x < |F m|^2 / 2. The right side
/// is the same at all positions. Both sides are in units of the largest weight, so that float32 holds them.
struct MeanRule {
  /// (D). For values F^T F m. For keys the diagonal of F^T F, which is to be multiplied by R_t m at position
  /// t.
  std::vector<float> weights;
  float limit = 0;  // |F m|^2 / 2
};

/// check()s that F^T F of keys is diagonal and equal within a rotary block, so that it commutes with R_t.
MeanRule key_mean_rule(const LinearCode& code, const BlockLayout& layout);
MeanRule value_mean_rule(const LinearCode& code);

}  // namespace blockgtq
