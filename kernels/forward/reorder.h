#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// A matrix (rows, cols) from where it lies as (cols, rows); with `interleaved` its rows lie there in turn,
/// one of the first half, one of the second, and `rows` is even.
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
