#pragma once
#include <cstdint>

#include "model/weights.h"

namespace blockgtq {

/// x (n, hidden) += the feed-forward part of its norm, or of `normed` where that is given: dense, or the
/// routed experts and the shared one. Tokens go through in slabs, so that at most kSlabTokens x intermediate
/// activations exist at a time.
void feed_forward(const Checkpoint& model, const LayerWeights& layer, float* x, int64_t n,
                  const float* normed = nullptr);

inline constexpr int64_t kSlabTokens = 1024;

}  // namespace blockgtq
