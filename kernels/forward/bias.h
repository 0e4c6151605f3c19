#pragma once
#include <cstdint>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// y_t += scale * bias for n rows of cols values, which lie y_stride apart.
void add_bias(float* y, int64_t y_stride, int64_t n, int64_t cols, const float* bias, float scale,
              const Stream& stream);

}  // namespace blockgtq::cuda
