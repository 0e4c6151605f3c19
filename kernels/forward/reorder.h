#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// Transposes: `in` holds the matrix as (cols, rows), and `out` gets it as (rows, cols). With `interleaved`
/// the rows of the first and of the second half take turns in `in`; `rows` is then even.
struct Reorder {
  const void* in = nullptr;
  FloatType from = FloatType::f32;
  int64_t rows = 0, cols = 0;
  bool interleaved = false;
  void* out = nullptr;  // not `in`
  FloatType to = FloatType::f32;
};
void reorder(const Reorder& job, const Stream& stream);

}  // namespace blockgtq::cuda
