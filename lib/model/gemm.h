#pragma once
// Eigen's matrix product.
#include <cstdint>

#include "quant/eigen.h"

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

/// out (+)= alpha a b. Eigen's path for tiny products sums in an order that depends on the alignment of
/// `out`: those are done here.
template <class A, class B>
void multiply(MatrixView out, float alpha, const A& a, const B& b, bool add = false) {
  constexpr int64_t kTiny = 20;
  if (!add) out.setZero();
  if (out.rows() + out.cols() + a.cols() >= kTiny) {
    out.noalias() += alpha * (a * b);
    return;
  }
  for (int64_t i = 0; i < out.rows(); ++i)
    for (int64_t k = 0; k < a.cols(); ++k)
      for (int64_t j = 0; j < out.cols(); ++j) out(i, j) += alpha * a(i, k) * b(k, j);
}

}  // namespace blockgtq
