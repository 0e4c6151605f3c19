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
/// h reads KV head h / group. With a window a query sees that many keys, its own the last; a cap c makes
/// c tanh(x / c) of a logit; a sink is one more logit of a head, without a value. Where there are recent
/// positions, a query sees recent_k and recent_v in the place of k and v at the last recent[chunk] positions,
/// its own the last of them, under the same softmax. `past` keys lie before those of the tokens, which are
/// then one chunk. Memory: a copy of the keys and values that are seen, and 64 rows of scores per thread.
struct AttentionProblem {
  int64_t n_tokens = 0, chunk = 0, past = 0;
  int64_t n_heads = 0, group = 1;
  float scale = 1;
  int64_t window = 0;            // 0: none
  double softcap = 0;            // 0: none
  const float* sinks = nullptr;  // (n_heads) or null
  Heads q, k, v;
  const int64_t* recent = nullptr;  // (n_chunks) or null: none
  Heads recent_k, recent_v;
};
void attention(const AttentionProblem& problem, float* out);

}  // namespace blockgtq
