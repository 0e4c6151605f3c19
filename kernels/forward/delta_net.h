#pragma once
#include <cstdint>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// y (n, cols) = silu of the convolution of x over the last `kernel` tokens of a chunk. weight
/// (cols, kernel); the last weight is that of the token itself. x and y are dense and do not overlap.
struct Convolution {
  const float* x = nullptr;
  const float* weight = nullptr;
  int64_t n = 0, chunk = 0, cols = 0, kernel = 0;
  float* y = nullptr;
};
void convolve(const Convolution& convolution, const Stream& stream);

/// The gated delta rule. Every chunk begins with an empty state S (key_dim, value_dim) per value head h. For
/// every token, with q and k made unit vectors:
///
///   S  *= e^(-e^decay_h softplus(a + dt_bias_h))
///   S  += k (sigmoid(b) (v - S^T k))^T
///   out = S^T q / sqrt(key_dim)
///
/// value_heads / key_heads neighbouring value heads share a key head.
struct DeltaRule {
  int64_t n_tokens = 0, chunk = 0;
  int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  const float* mixed = nullptr;  // (T, [q: key_heads key_dim | k: the same | v: value_heads value_dim])
  const float *a = nullptr, *b = nullptr;            // (T, value_heads)
  const float *decay = nullptr, *dt_bias = nullptr;  // (value_heads)
  float* out = nullptr;  // head h of token t at (t * value_heads + h) * out_stride
  int64_t out_stride = 0;
};
void delta_rule(const DeltaRule& rule, const Stream& stream);

inline constexpr int64_t kMaxDeltaKeyDim = 128;

}  // namespace blockgtq::cuda
