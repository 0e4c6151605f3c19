#pragma once
#include "model/weights.h"

namespace blockgtq {

/// The model's norm of n rows x, one after the other, to y, which may be x.
void apply_norm(const Config& config, const Norm& norm, const float* x, int64_t n, float* y);

}  // namespace blockgtq
