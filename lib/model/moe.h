#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "hf/config.h"

namespace blockgtq {

/// Which experts a token goes to, and with what weight. (n, n_per_token), experts of a token in falling order
/// of probability, lowest index first on ties.
struct Routing {
  std::vector<int32_t> expert;
  std::vector<float> weight;
};

/// Scores by softmax or sigmoid of the router's logits (n, n_experts), which are overwritten; then the best
/// n_per_token by score plus `bias` (n_experts; may be empty), with n_group > 1 the best of the topk_group
/// best groups. Weights are the scores without the bias.
Routing route(const MoeConfig& moe, float* logits, int64_t n, std::span<const float> bias = {});

}  // namespace blockgtq
