#pragma once
#include "model/weights.h"

namespace blockgtq {

/// The model's norm (RMS or layer norm) of n consecutive rows x to y, which may be x.
void apply_norm(const Config& config, const Norm& norm, const float* x, int64_t n, float* y);

}  // namespace blockgtq
