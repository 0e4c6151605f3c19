#pragma once
#include <cstdint>

#include "float_type.h"
#include "heads.h"

namespace blockgtq::cuda {

/// Causal attention within every chunk: out (T, n_heads, v_dim) = softmax(scale * q k^T) v, where query head
/// h reads KV head h / group.
struct AttentionProblem {
  int64_t n_tokens = 0, chunk = 0;
  int64_t n_heads = 0, group = 1;
  float scale = 1;
  int64_t dim = 0, v_dim = 0;  // of a head of q and k, and of v
  ConstHeads q, k, v;
  void* out = nullptr;  // dense, of out_type
  FloatType out_type = FloatType::f32;
};
void attention(const AttentionProblem& problem, const Stream& stream);

/// The pairs (dim, v_dim) that attention() is compiled for: equal ones, and those of latent attention.
bool attention_supported(int64_t dim, int64_t v_dim);
inline constexpr const char* kAttentionDims = "64, 80, 96, 128, 256";
inline constexpr const char* kLatentAttentionDims = "128 with 64, 192 with 128";

}  // namespace blockgtq::cuda
