#pragma once
#include <cstdint>
#include <span>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// An array (B, T, heads, D). Strides are in elements, that of D is 1.
struct StridedRows {
  void* data = nullptr;
  FloatType type = FloatType::f16;
  int64_t sequence = 0, token = 0, head = 0;
};

struct CopyRows {
  StridedRows from, to;
  int heads = 0;
};

inline constexpr int kMostCopies = 3;  // q, k and v

/// Copies up to kMostCopies arrays of the same B, T and D (a multiple of 8) in one launch, which may begin
/// while the preceding kernel ends, and ends after it. What becomes fp16 is rounded to nearest even, and
/// clipped to 65504. Arrays do not overlap.
void copy_rows(std::span<const CopyRows> copies, int batch, int64_t tokens, int dim, const Stream& stream);

}  // namespace blockgtq::cuda
