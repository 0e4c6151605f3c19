#pragma once
#include <cstdint>
#include <vector>

#include "hf/config.h"

namespace blockgtq {

/// Which experts a token goes to, and with what weight. (n, n_per_token), experts of a token in falling order
/// of probability, lowest index first on ties.
struct Routing {
  std::vector<int32_t> expert;
  std::vector<float> weight;
};

/// Softmax over the router's logits (n, n_experts), which are overwritten; then the best n_per_token, or with
/// n_group > 1 the best of the topk_group groups with the largest member.
Routing route(const MoeConfig& moe, float* logits, int64_t n);

}  // namespace blockgtq
