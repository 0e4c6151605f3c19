#pragma once
// Eigen's matrix product on one thread: threads are over tiles, so that no result depends on their number.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#include <cstdint>

namespace blockgtq {

using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
/// (rows, cols) float32 with rows `stride` apart.
using MatrixView = Eigen::Map<RowMatrix, Eigen::Unaligned, Eigen::OuterStride<>>;
using ConstMatrixView = Eigen::Map<const RowMatrix, Eigen::Unaligned, Eigen::OuterStride<>>;

inline MatrixView view(float* data, int64_t rows, int64_t cols, int64_t stride) {
  return {data, rows, cols, Eigen::OuterStride<>(stride)};
}
inline ConstMatrixView view(const float* data, int64_t rows, int64_t cols, int64_t stride) {
  return {data, rows, cols, Eigen::OuterStride<>(stride)};
}

}  // namespace blockgtq
