#pragma once
#include <cstdint>

#include "hf/safetensors.h"

namespace blockgtq {

/// x[i] = e^(x[i] - max x) for n >= 1 elements. Returns their sum; a division by it makes a softmax.
float exp_below_max(float* x, int64_t n);

/// y_t = x_t / sqrt(mean(x_t^2) + eps) * (weight + offset) for n rows of dim values. Rows of x and y are
/// x_stride and y_stride floats apart; x and y may be the same memory. weight (dim).
void rms_norm(const Tensor& weight, double eps, const float* x, int64_t x_stride, int64_t n, float* y,
              int64_t y_stride, double offset = 0);

/// gate[i] = silu(gate[i]) * up[i], n elements.
void silu_times(float* gate, const float* up, int64_t n);
/// gate[i] = gelu(gate[i]) * up[i], with the tanh approximation of gelu. Where up is null the factor is 1.
void gelu_tanh_times(float* gate, const float* up, int64_t n);
/// gate[i] = g sigmoid(alpha g) (u + 1) with g = min(gate[i], limit) and u = up[i] clamped to [-limit,
/// limit].
void clamped_swiglu(float* gate, const float* up, double limit, double alpha, int64_t n);

/// x[i] *= sigmoid(gate[i]), n elements.
void times_sigmoid(float* x, const float* gate, int64_t n);

/// x[i] = cap * tanh(x[i] / cap), n elements.
void softcap(float* x, double cap, int64_t n);

/// x[i] += scale * y[i], n elements.
void add_to(float* x, const float* y, int64_t n, float scale = 1);

/// The index of the first NaN or infinity among n values; n where there is none.
int64_t first_nonfinite(const float* x, int64_t n);

}  // namespace blockgtq
