#include "model/moe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "model/elementwise.h"
#include "model/share.h"

namespace blockgtq {

namespace {

/// The n largest of values in descending order, the lowest index first on ties.
std::vector<int32_t> largest(const float* values, int count, int n) {
  std::vector<int32_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + n, order.end(), [&](int32_t a, int32_t b) {
    return values[a] > values[b] || (values[a] == values[b] && a < b);
  });
  order.resize(size_t(n));
  return order;
}

/// Excludes all groups but the best from the choice. A group is rated by its best member, or by its two best.
void keep_best_groups(const MoeConfig& moe, float* choice) {
  const int size = moe.n_experts / moe.n_group;
  std::vector<float> worth(static_cast<size_t>(moe.n_group));
  for (int g = 0; g < moe.n_group; ++g) {
    const float* group = choice + g * size;
    const std::vector<int32_t> best = largest(group, size, moe.group_by_two ? 2 : 1);
    for (const int32_t e : best) worth[size_t(g)] += group[e];
  }
  std::vector<bool> kept(static_cast<size_t>(moe.n_group), false);
  for (int32_t g : largest(worth.data(), moe.n_group, moe.topk_group)) kept[size_t(g)] = true;
  for (int e = 0; e < moe.n_experts; ++e)
    if (!kept[size_t(e / size)]) choice[e] = -std::numeric_limits<float>::infinity();
}

void score(MoeConfig::Score how, float* x, int n) {
  if (how == MoeConfig::Score::sigmoid) {
    for (int e = 0; e < n; ++e) x[e] = 1 / (1 + std::exp(-x[e]));
    return;
  }
  const float sum = exp_below_max(x, n);
  for (int e = 0; e < n; ++e) x[e] /= sum;
}

}  // namespace

Routing route(const MoeConfig& moe, float* logits, int64_t n, std::span<const float> bias) {
  constexpr float kLeastSum = 1e-20f;  // all sigmoids may underflow
  const size_t k = size_t(moe.n_per_token), n_experts = size_t(moe.n_experts);
  check(bias.empty() || bias.size() == n_experts, "route: one bias per expert");
  Routing out;
  out.expert.resize(size_t(n) * k);
  out.weight.resize(size_t(n) * k);
  share(size_t(n), 10.0 * double(n * moe.n_experts), [&](size_t t) {
    float* p = logits + int64_t(t) * moe.n_experts;
    score(moe.score, p, moe.n_experts);
    std::vector<float> choice(p, p + n_experts);
    for (size_t e = 0; e < bias.size(); ++e) choice[e] += bias[e];
    if (moe.n_group > 1) keep_best_groups(moe, choice.data());
    const std::vector<int32_t> best = largest(choice.data(), moe.n_experts, moe.n_per_token);
    float scale = float(moe.routed_scale);
    if (moe.normalize_top_k) {
      float kept = 0;
      for (int32_t e : best) kept += p[e];
      scale /= std::max(kept, kLeastSum);
    }
    for (size_t i = 0; i < k; ++i) {
      out.expert[t * k + i] = best[i];
      out.weight[t * k + i] = p[best[i]] * scale;
    }
  });
  return out;
}

}  // namespace blockgtq
