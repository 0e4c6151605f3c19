#pragma once
#include <vector>

#include "base/blocks.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// Which vectors of a head keep their mean in pages (LinearCode::mean_flag), found without their z:
/// |F x|^2 < |F (x - m)|^2 where (F^T F m) . x < |F m|^2 / 2, and the right side is the same at all
/// positions. In units of the largest weight, so that both are numbers for float32.
struct MeanRule {
  /// (D) of values F^T F mean; of keys the diagonal of F^T F, which is to be multiplied with R_t mean.
  std::vector<float> weights;
  float limit = 0;
};

/// A defect where F^T F is more than its diagonal or differs within a rotary block: it has to let R_t
/// through.
MeanRule key_mean_rule(const LinearCode& code, const BlockLayout& layout);
MeanRule value_mean_rule(const LinearCode& code);

}  // namespace blockgtq
