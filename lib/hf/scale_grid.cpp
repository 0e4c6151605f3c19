#include "hf/scale_grid.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/float8.h"

namespace blockgtq {

namespace {

template <size_t N>
constexpr std::array<float, N> table(float (*number)(uint8_t)) {
  std::array<float, N> out{};
  for (size_t i = 0; i < N; ++i) out[i] = number(uint8_t(i));
  return out;
}

constexpr std::array<float, 256> kE4m3 = table<256>(from_e4m3), kE8m0 = table<256>(from_e8m0);
constexpr std::array<float, 16> kE2m1 = table<16>(from_e2m1);

int64_t blocks_of(int64_t n, int64_t block) {
  return (n + block - 1) / block;
}

/// The row of scales for a row of the whole tensor.
int64_t scale_row(const ScaleGrid& grid, int64_t row) {
  return row / grid.rows * blocks_of(grid.rows, grid.block_rows) + row % grid.rows / grid.block_rows;
}

void read_e4m3(const Tensor& tensor, int64_t first, int64_t n, float* out) {
  const ScaleGrid& grid = *tensor.grid;
  const auto* const data = reinterpret_cast<const uint8_t*>(tensor.data.data());
  const int64_t scale_cols = blocks_of(grid.cols, grid.block_cols);
  for (int64_t i = 0; i < n;) {
    const int64_t row = tensor.first_row + (first + i) / grid.cols, col = (first + i) % grid.cols;
    const int64_t m = std::min({n - i, grid.cols - col, grid.block_cols - col % grid.block_cols});
    float scale;
    grid.scales.read(scale_row(grid, row) * scale_cols + col / grid.block_cols, 1, &scale);
    const uint8_t* const at = data + first + i;
    for (int64_t j = 0; j < m; ++j) out[i + j] = kE4m3[at[j]] * scale;
    i += m;
  }
}

/// A row of the tensor is a column of the stored matrix: one number of one block of every stored row.
void read_mxfp4(const Tensor& tensor, int64_t first, int64_t n, float* out) {
  const ScaleGrid& grid = *tensor.grid;
  const int64_t pitch = grid.cols / 2, blocks = grid.cols / kMxfp4Block;  // bytes of a stored row
  const auto* const data = reinterpret_cast<const uint8_t*>(tensor.data.data());
  const auto* const scales = reinterpret_cast<const uint8_t*>(grid.scales.data.data());
  const int64_t first_matrix = tensor.first_row / grid.cols;
  for (int64_t i = 0; i < n;) {
    const int64_t row = tensor.first_row + (first + i) / grid.rows, at = (first + i) % grid.rows;
    const int64_t matrix = row / grid.cols, col = row % grid.cols, m = std::min(n - i, grid.rows - at);
    const uint8_t* number = data + ((matrix - first_matrix) * grid.rows + at) * pitch + col / 2;
    const uint8_t* scale = scales + (matrix * grid.rows + at) * blocks + col / kMxfp4Block;
    const int shift = int(col % 2) * 4;
    for (int64_t j = 0; j < m; ++j, number += pitch, scale += blocks)
      out[i + j] = kE2m1[*number >> shift & 15] * kE8m0[*scale];
    i += m;
  }
}

}  // namespace

void read_scaled(const Tensor& tensor, int64_t first, int64_t n, float* out) {
  check(first >= 0 && n >= 0 && first <= tensor.elements() - n, "Tensor: outside the tensor");
  (tensor.dtype == DType::f4_e2m1 ? read_mxfp4 : read_e4m3)(tensor, first, n, out);
}

std::span<const std::byte> scale_extent(const Tensor& tensor) {
  const ScaleGrid& grid = *tensor.grid;
  if (tensor.elements() == 0) return {};
  const int64_t begin = tensor.first_row, end = begin + tensor.elements() / tensor.shape.back();
  if (tensor.dtype == DType::f4_e2m1) {
    const int64_t matrix = grid.rows * grid.cols / kMxfp4Block;  // bytes of its scales
    const int64_t from = begin / grid.cols * matrix, to = blocks_of(end, grid.cols) * matrix;
    return grid.scales.data.subspan(size_t(from), size_t(to - from));
  }
  const int64_t scale_cols = blocks_of(grid.cols, grid.block_cols);
  const int64_t from = scale_row(grid, begin) * scale_cols, to = (scale_row(grid, end - 1) + 1) * scale_cols;
  return grid.scales.extent(from, to - from);
}

}  // namespace blockgtq
