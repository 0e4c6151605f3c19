#pragma once
#include <cstdint>
#include <functional>
#include <span>

#include "model/weights.h"

namespace blockgtq {

/// x (T, hidden) = the tokens' rows of the embedding. Only those rows are read.
void embed(const Checkpoint& model, const Tensor& embedding, std::span<const int32_t> tokens, float* x);

/// The most tokens whose logits exist at a time.
inline constexpr int64_t kLogitTokens = 256;

/// Applies the config's factor and softcap to n logits.
void finish_logits(const Config& config, float* logits, int64_t n);

/// Final norm and lm_head of x (T, hidden). Calls on_logits with (n, vocab), at most kLogitTokens tokens at a
/// time and never across a chunk's end.
void output_layer(const Checkpoint& model, const OuterWeights& outer, const float* x, int64_t n_tokens,
                  int64_t chunk,
                  const std::function<void(int64_t first, int64_t n, const float* logits)>& on_logits);

}  // namespace blockgtq
