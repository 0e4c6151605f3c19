#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "hf/checkpoint.h"

namespace blockgtq {

/// Exit::nonfinite where the tensor is not finite: names the file, the tensor and its first row that is not.
void require_finite(const Checkpoint& model, const Tensor& weight);

/// Exit::nonfinite where a value of x (n, cols) is NaN or infinite. The error names the first of `weights`
/// that is not finite by file, tensor and row. Where all are finite, it names `what` and the token, which is
/// first_token plus the row of x.
void require_finite(const Checkpoint& model, const float* x, int64_t n, int64_t cols, const std::string& what,
                    const std::vector<const Tensor*>& weights, int64_t first_token = 0);

}  // namespace blockgtq
