#include "model/cuda_experts.h"

namespace blockgtq {

cuda::Activation activation_of(const Config& config) {
  switch (config.activation) {
    case Activation::silu:
      return cuda::Activation::silu;
    case Activation::gelu_tanh:
      return cuda::Activation::gelu_tanh;
    default:
      return cuda::Activation::clamped;
  }
}

cuda::RoutingRule routing_rule(const MoeConfig& moe) {
  cuda::RoutingRule rule{moe.n_experts, moe.n_per_token, moe.n_group, moe.topk_group, moe.normalize_top_k};
  rule.scale = float(moe.routed_scale);
  rule.sigmoid = moe.score == MoeConfig::Score::sigmoid;
  rule.group_by_two = moe.group_by_two;
  return rule;
}

std::vector<int64_t> group_by_expert(const MoeConfig& moe, const int32_t* expert, int64_t n,
                                     int32_t* row_token, int32_t* position) {
  const int64_t choices = n * moe.n_per_token;
  std::vector<int64_t> begin(size_t(moe.n_experts) + 1, 0);
  for (int64_t i = 0; i < choices; ++i) ++begin[size_t(expert[i]) + 1];
  for (size_t e = 1; e < begin.size(); ++e) begin[e] += begin[e - 1];
  std::vector<int64_t> next(begin.begin(), begin.end() - 1);
  for (int64_t i = 0; i < choices; ++i) {
    const int64_t row = next[size_t(expert[i])]++;
    row_token[row] = int32_t(i / moe.n_per_token);
    position[i] = int32_t(row);
  }
  return begin;
}

}  // namespace blockgtq
