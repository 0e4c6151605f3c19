#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"
#include "kernels/forward/activation.h"
#include "kernels/forward/candidate.h"

namespace blockgtq::cuda {

/// The most vectors of one product.
inline constexpr int kMaxVectors = 16;

/// W x for a few vectors x, which is where a decoding step spends its time. W is read once.
struct MatVec {
  const void* w = nullptr;  // (rows, cols), dense
  FloatType type = FloatType::f32;
  int64_t rows = 0, cols = 0;  // cols: a multiple of 8
  int n = 1;                   // vectors, at most kMaxVectors

  /// The vectors (n, cols), dense, which are rounded to `type` before the product: x is float32, x_half fp16,
  /// x_low of `type`. One of them is set.
  const float* x = nullptr;
  const void* x_half = nullptr;
  const void* x_low = nullptr;
  /// For x alone: x / sqrt(mean(x^2) + eps) * (norm_weight + norm_offset) takes its place.
  const float* norm_weight = nullptr;  // (cols), or null
  float norm_offset = 0, norm_eps = 0;

  const float* bias = nullptr;  // (rows), or null
  float scale = 1;              // of the result, its bias included

  /// y (n, rows) = the result, or += with `add`.
  float* y = nullptr;
  bool add = false;
  /// In place of y: rows [0, rows / 2) are gates, the others the up rows that they multiply.
  /// (n, rows / 2) of `type`.
  void* gated = nullptr;
  Activation activation = Activation::silu;  // silu or gelu_tanh
  /// Beside y: the best candidates (n, n_candidates(rows)).
  Candidate* best = nullptr;
};

/// The number of candidates that a product of `rows` rows leaves for each vector on this device.
int64_t n_candidates(int64_t rows);

/// The most bytes that n vectors of `cols` numbers of the product's type may take, where they are not of that
/// type already (or are float32).
int64_t max_vector_bytes();

/// One launch, which may begin while the preceding kernel on the stream ends. It reads W, the bias and the
/// norm's weights before that kernel has ended, and everything else after. Same inputs, same bits.
void matvec(const MatVec& product, const Stream& stream);

}  // namespace blockgtq::cuda
