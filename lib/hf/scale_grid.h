#pragma once
#include "hf/tensor.h"

namespace blockgtq {

/// The scales of a tensor of small floats: one for every block of every matrix of it. There are two kinds.
///
/// f8_e4m3: matrices (rows, cols) as they are mapped; scales (..., ceil(rows / block_rows), ceil(cols /
/// block_cols)) in F32, F16 or BF16, or a single one.
///
/// f4_e2m1, the MXFP4 of gpt-oss: two numbers a byte, the lower four bits first. The tensor is (..., cols,
/// rows), as in the bf16 checkpoint. It is stored as the transposed matrices (rows, cols), in blocks of 32
/// numbers of a row, with scales (..., rows, cols / 32) in E8M0.
struct ScaleGrid {
  Tensor scales;
  int64_t rows = 0, cols = 0;  // of a matrix as it is stored
  int64_t block_rows = 1, block_cols = 1;
};

inline constexpr int64_t kMxfp4Block = 32;

/// out[i] = element first + i of a tensor that has a grid: the product in float32 of number and scale, both
/// exact. Nothing is rounded afterwards. (transformers rounds the same product to the model's dtype;
/// compressed-tensors computes it in the dtype of the scale.)
void read_scaled(const Tensor& tensor, int64_t first, int64_t n, float* out);

/// The stored bytes of the scales of a tensor that has a grid, and perhaps some more beside them.
std::span<const std::byte> scale_extent(const Tensor& tensor);

}  // namespace blockgtq
