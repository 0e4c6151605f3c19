#pragma once
#include <cstdint>

#include "hf/safetensors.h"

namespace blockgtq {

/// x[i] = e^(x[i] - max x), n >= 1 elements; returns their sum, which makes a softmax of them.
float exp_below_max(float* x, int64_t n);

/// y_t = x_t / sqrt(mean(x_t^2) + eps) * weight for n rows of dim values; x and y rows are x_stride and
/// y_stride apart and may be the same memory. weight (dim).
void rms_norm(const Tensor& weight, double eps, const float* x, int64_t x_stride, int64_t n, float* y,
              int64_t y_stride);

/// gate[i] = silu(gate[i]) * up[i], n elements.
void silu_times(float* gate, const float* up, int64_t n);

/// x[i] += y[i], n elements.
void add_to(float* x, const float* y, int64_t n);

/// The index of the first NaN or infinity among n values; n where there is none.
int64_t first_nonfinite(const float* x, int64_t n);

}  // namespace blockgtq
