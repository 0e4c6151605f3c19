#pragma once
#include <cstdint>

#include "kernels/device/float_type.h"
#include "kernels/forward/heads.h"

namespace blockgtq::cuda {

/// Causal attention within every chunk: out (T, n_heads, v_dim) = softmax(scale * q k^T) v, where query head
/// h reads KV head h / group.
///
///   past      so many keys and values come before those of the tokens, which are then one chunk
///   window    a query sees so many keys, its own being the last
///   softcap   c makes c tanh(x / c) of a logit x
///   sinks     a head has one more logit, without a value
///   gate      the result is multiplied by the gate's sigmoid
struct AttentionProblem {
  int64_t n_tokens = 0, chunk = 0, past = 0;
  int64_t n_heads = 0, group = 1;
  float scale = 1;
  int64_t dim = 0, v_dim = 0;    // of a head of q and k, and of v
  ConstHeads q, k, v;            // T rows of q, past + T of k and v
  int64_t window = 0;            // 0: none
  float softcap = 0;             // 0: none
  const float* sinks = nullptr;  // (n_heads) or null
  ConstHeads gate;               // heads of v_dim; null: none
  void* out = nullptr;           // dense, of out_type
  FloatType out_type = FloatType::f32;
};
void attention(const AttentionProblem& problem, const Stream& stream);

/// dim and v_dim are at most kMaxAttentionDim. The usual ones (64, 80, 96, 128, 256, and those of latent
/// attention) have kernels of their own where there is no softcap. Others are padded to 32, 128 or 256.
bool attention_supported(int64_t dim, int64_t v_dim);
inline constexpr int64_t kMaxAttentionDim = 256;

}  // namespace blockgtq::cuda
