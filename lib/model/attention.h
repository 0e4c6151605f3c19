#pragma once
#include <cstdint>

namespace blockgtq {

/// The heads of a matrix over tokens. Head h of token t has `dim` values from data + t * stride + h *
/// head_stride on.
struct Heads {
  const float* data = nullptr;
  int64_t stride = 0, head_stride = 0;
  int64_t dim = 0;
};

/// Causal attention within every chunk: softmax(scale * q k^T) v, where query head h reads KV head h / group.
/// - window: a query sees that many keys, its own the last.
/// - softcap c turns a logit x into c tanh(x / c).
/// - sinks: one more logit per head, without a value.
/// - recent: at the last recent[chunk] positions, its own the last of them, a query sees recent_k and
///   recent_v in place of k and v, under the same softmax.
/// - past: so many keys lie before those of the tokens, which are then a single chunk.
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
/// out (T, n_heads, v.dim). Takes memory for a copy of the keys and values that are seen, and for 66 rows of
/// scores per thread.
void attention(const AttentionProblem& problem, float* out);

}  // namespace blockgtq
