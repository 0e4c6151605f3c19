#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"
#include "kernels/forward/activation.h"
#include "kernels/forward/candidate.h"

namespace blockgtq::cuda {

/// Vectors that one product takes.
inline constexpr int kMaxVectors = 16;

/// W x for a few vectors x: what a decoding step spends its time on. W is read once.
struct MatVec {
  const void* w = nullptr;  // (rows, cols), dense
  FloatType type = FloatType::f32;
  int64_t rows = 0, cols = 0;  // cols: a multiple of 8
  int n = 1;                   // vectors, at most kMaxVectors

  /// x (n, cols), dense; rounded to `type` before the product. float32, fp16, or (x_low) of `type`. One is
  /// set.
  const float* x = nullptr;
  const void* x_half = nullptr;
  const void* x_low = nullptr;
  /// Of float32 alone: x / sqrt(mean(x^2) + eps) * (norm_weight + norm_offset) in the place of x.
  const float* norm_weight = nullptr;  // (cols), or null
  float norm_offset = 0, norm_eps = 0;

  const float* bias = nullptr;  // (rows), or null
  float scale = 1;              // of the result, its bias included

  /// y (n, rows) = or += the result.
  float* y = nullptr;
  bool add = false;
  /// In y's place: rows [0, rows / 2) are gates, those behind them what they open. (n, rows / 2) of `type`.
  void* gated = nullptr;
  Activation activation = Activation::silu;  // silu or gelu_tanh
  /// Beside y: (n, n_candidates(rows)).
  Candidate* best = nullptr;
};

/// Candidates that a product of so many rows leaves for each vector on this device.
int64_t n_candidates(int64_t rows);

/// Bytes that n vectors of `cols` numbers of the product's type may take, where they are not of that type
/// already (or float32).
int64_t max_vector_bytes();

/// One launch, which may begin while the one before it on the stream ends: it reads W, bias and norm weights
/// before that one has ended, everything else after. Same inputs, same bits.
void matvec(const MatVec& product, const Stream& stream);

}  // namespace blockgtq::cuda
