#pragma once
#include <cstdint>

namespace blockgtq {

/// Heads of a matrix over tokens: head h of token t starts at data + t * stride + h * head_stride and has dim
/// values.
struct Heads {
  const float* data = nullptr;
  int64_t stride = 0, head_stride = 0;
  int64_t dim = 0;
};

/// Causal attention within every chunk: out (T, n_heads, v.dim) = softmax(scale * q k^T) v, where query head
/// h reads KV head h / group. Memory per thread: 64 rows of scores.
struct AttentionProblem {
  int64_t n_tokens = 0, chunk = 0;
  int64_t n_heads = 0, group = 1;
  float scale = 1;
  Heads q, k, v;
};
void attention(const AttentionProblem& problem, float* out);

}  // namespace blockgtq
