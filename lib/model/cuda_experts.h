#pragma once
#include <cstdint>
#include <vector>

#include "hf/config.h"
#include "kernels/forward/activation.h"
#include "kernels/forward/moe.h"

namespace blockgtq {

/// The model's activation, as the kernels name it.
cuda::Activation activation_of(const Config& config);

/// How the model's router chooses experts. The caller still sets the bias.
cuda::RoutingRule routing_rule(const MoeConfig& moe);

/// Sorts the choices of n tokens by expert: one expert after the other, tokens in order. expert (n,
/// n_per_token) names the experts of each token. Writes row_token (n n_per_token), the token of each row, and
/// position (n, n_per_token), the row of each choice. Returns (n_experts + 1): where the rows of each expert
/// begin, and the end of the last.
std::vector<int64_t> group_by_expert(const MoeConfig& moe, const int32_t* expert, int64_t n,
                                     int32_t* row_token, int32_t* position);

}  // namespace blockgtq
