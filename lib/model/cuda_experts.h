#pragma once
#include <cstdint>
#include <vector>

#include "hf/config.h"
#include "kernels/forward/activation.h"
#include "kernels/forward/moe.h"

namespace blockgtq {

/// The kernels' word for the model's activation.
cuda::Activation activation_of(const Config& config);

/// How the model's router chooses, its bias left to say.
cuda::RoutingRule routing_rule(const MoeConfig& moe);

/// The rows of every expert, one expert after the other, tokens in order, where n tokens go to the experts
/// `expert` (n, n_per_token): row_token (n n_per_token), each row's token, and position (n, n_per_token),
/// each choice's row. Returns (n_experts + 1) where each expert's rows begin, and the end of the last.
std::vector<int64_t> group_by_expert(const MoeConfig& moe, const int32_t* expert, int64_t n,
                                     int32_t* row_token, int32_t* position);

}  // namespace blockgtq
