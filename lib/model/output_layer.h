#pragma once
#include <cstdint>
#include <functional>
#include <span>

#include "model/weights.h"

namespace blockgtq {

/// x (T, hidden) = the tokens' rows of the embedding; only those rows are read.
void embed(const Checkpoint& model, const Tensor& embedding, std::span<const int32_t> tokens, float* x);

inline constexpr int64_t kLogitTokens = 256;

/// What the config does to logits, n values: a factor, a cap.
void finish_logits(const Config& config, float* logits, int64_t n);

/// Final norm and lm_head of x (T, hidden), at most kLogitTokens at a time and never across a chunk's end.
void output_layer(const Checkpoint& model, const OuterWeights& outer, const float* x, int64_t n_tokens,
                  int64_t chunk,
                  const std::function<void(int64_t first, int64_t n, const float* logits)>& on_logits);

}  // namespace blockgtq
