#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// The norm of n rows of dim values: x_t / sqrt(mean(x_t^2) + eps) * (weight + offset) + bias. A centered
/// norm (layer norm) first subtracts the row's mean from x_t.
struct Norm {
  const float* x = nullptr;  // rows x_stride apart
  int64_t x_stride = 0, n = 0, dim = 0;
  const float* weight = nullptr;  // (dim)
  const float* bias = nullptr;    // (dim); null: none
  float offset = 0;
  float eps = 0;
  bool centered = false;
  float* y = nullptr;  // null, or rows y_stride apart; may be x
  int64_t y_stride = 0;
  bool add = false;  // y += scale times the norm, instead of y = the norm
  float scale = 1;
  void* low = nullptr;  // null, or (n, dim) of low_type: what the next product reads
  FloatType low_type = FloatType::f32;
};
/// One launch, which may begin while the preceding kernel ends.
void norm(const Norm& norm, const Stream& stream);

}  // namespace blockgtq::cuda
