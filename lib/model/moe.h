#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "hf/config.h"

namespace blockgtq {

/// The experts of each token and their weights, (n, n_per_token): in descending order of probability, the
/// lowest index first on ties.
struct Routing {
  std::vector<int32_t> expert;
  std::vector<float> weight;
};

/// Chooses experts. Scores are the softmax or sigmoid of the router's logits (n, n_experts), which are
/// overwritten. The n_per_token best by score plus `bias` (n_experts; may be empty) are taken; with n_group >
/// 1, of the topk_group best groups only. Weights are the scores without the bias.
Routing route(const MoeConfig& moe, float* logits, int64_t n, std::span<const float> bias = {});

}  // namespace blockgtq
