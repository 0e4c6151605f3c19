#pragma once
#include "hf/tensor.h"

namespace blockgtq {

/// What the numbers of a tensor are multiplied by: one scale for every block of every matrix of it. Two
/// kinds:
///
/// f8_e4m3: matrices (rows, cols) where they lie; scales (..., ceil(rows / block_rows), ceil(cols /
/// block_cols)) in F32, F16 or BF16, or a single one.
///
/// f4_e2m1, MXFP4 of gpt-oss: two numbers a byte, the lower four bits first. The tensor is (..., cols, rows),
/// as the checkpoint in bf16 has it, and stored are the transposed matrices (rows, cols) in blocks of 32
/// numbers of a row; scales (..., rows, cols / 32) in E8M0.
struct ScaleGrid {
  Tensor scales;
  int64_t rows = 0, cols = 0;  // of a matrix as it is stored
  int64_t block_rows = 1, block_cols = 1;
};

inline constexpr int64_t kMxfp4Block = 32;

/// out[i] = element first + i of a tensor that has a grid: the product in float32 of number and scale, both
/// exact, and nothing rounded behind it. (transformers rounds the same product to the model's dtype;
/// compressed-tensors computes it in the dtype of the scale.)
void read_scaled(const Tensor& tensor, int64_t first, int64_t n, float* out);

/// The stored bytes of the scales of a tensor that has a grid, and at most some more beside them.
std::span<const std::byte> scale_extent(const Tensor& tensor);

}  // namespace blockgtq
