#pragma once
#include <cstdint>

#include "device.h"
#include "float_type.h"

namespace blockgtq::cuda {

/// Root-mean-square norm of n rows of dim values: x_t / sqrt(mean(x_t^2) + eps) * weight.
struct RmsNorm {
  const float* x = nullptr;  // rows x_stride apart
  int64_t x_stride = 0, n = 0, dim = 0;
  const float* weight = nullptr;  // (dim)
  float eps = 0;
  float* y = nullptr;  // null, or rows y_stride apart; may be x
  int64_t y_stride = 0;
  void* low = nullptr;  // null, or (n, dim) of low_type: what the next product reads
  FloatType low_type = FloatType::f32;
};
void rms_norm(const RmsNorm& norm, const Stream& stream);

}  // namespace blockgtq::cuda
