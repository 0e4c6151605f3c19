#pragma once
#include <cstdint>
#include <vector>

#include "base/blocks.h"

namespace blockgtq {

/// The published logit error of an attention layer and KV head. With e = k - k_hat, A_i = q^(i).e^(i) and B_i
/// = q^(i)_1 e^(i)_0 - q^(i)_0 e^(i)_1 of every rotary block i:
///   err(q, delta) = sum_i [A_i cos(delta theta_i) + B_i sin(delta theta_i)] + static part,
///   MAE = mean over tokens, query heads and offsets delta of |err|.
/// There is no 1/sqrt(D). q_t is paired with k_t. The static part is q.e over the coordinates without RoPE.
class LogitError {
 public:
  /// inv_freq (rotary_dim / 2). The offsets are linspace(-window, window, n_offsets).
  LogitError(const BlockLayout& layout, std::vector<double> inv_freq, int window = 1024, int n_offsets = 50);

  /// The sum of |err| over n tokens, G = group query heads and all offsets; divide by n * G * n_offsets.
  /// q: head g of token t at q + (t * q_stride + g * D); k, k_hat: (n, D) with token strides k_stride, D.
  /// The value does not depend on the number of threads.
  double sum(const float* q, int64_t q_stride, int group, const float* k, int64_t k_stride,
             const float* k_hat, int64_t n) const;
  /// That sum after every `chunk` tokens and at the end: (ceil(n / chunk)).
  std::vector<double> running_sums(const float* q, int64_t q_stride, int group, const float* k,
                                   int64_t k_stride, const float* k_hat, int64_t n, int64_t chunk) const;
  int n_offsets() const { return n_offsets_; }
  /// (2 * rotary_dim / 2, n_offsets): the cosines of every block, then the sines.
  const std::vector<float>& table() const { return table_; }

 private:
  BlockLayout layout_;
  int n_offsets_;
  std::vector<float> table_;
};

}  // namespace blockgtq
