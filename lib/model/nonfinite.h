#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "hf/checkpoint.h"

namespace blockgtq {

/// Exit::nonfinite names the file, the tensor and the first row of it that is not finite.
void require_finite(const Checkpoint& model, const Tensor& weight);

/// Throws Error(Exit::nonfinite) when a value of x (n, cols) is NaN or infinite: it names the first of the
/// `weights` that is not finite by file, tensor and row; else `what` and the token, which is first_token plus
/// the row of x.
void require_finite(const Checkpoint& model, const float* x, int64_t n, int64_t cols, const std::string& what,
                    const std::vector<const Tensor*>& weights, int64_t first_token = 0);

}  // namespace blockgtq
