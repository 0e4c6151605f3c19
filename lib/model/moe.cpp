#include "model/moe.h"

#include <algorithm>
#include <numeric>

#include "model/elementwise.h"
#include "model/share.h"

namespace blockgtq {

namespace {

/// The n largest of values, in falling order, lowest index first on ties.
std::vector<int32_t> largest(const float* values, int count, int n) {
  std::vector<int32_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + n, order.end(), [&](int32_t a, int32_t b) {
    return values[a] > values[b] || (values[a] == values[b] && a < b);
  });
  order.resize(size_t(n));
  return order;
}

/// Sets the probabilities of all groups but the best to zero.
void keep_best_groups(const MoeConfig& moe, float* probability) {
  const int size = moe.n_experts / moe.n_group;
  std::vector<float> best(static_cast<size_t>(moe.n_group));
  for (int g = 0; g < moe.n_group; ++g)
    best[size_t(g)] = *std::max_element(probability + g * size, probability + (g + 1) * size);
  std::vector<bool> kept(static_cast<size_t>(moe.n_group), false);
  for (int32_t g : largest(best.data(), moe.n_group, moe.topk_group)) kept[size_t(g)] = true;
  for (int e = 0; e < moe.n_experts; ++e)
    if (!kept[size_t(e / size)]) probability[e] = 0;
}

}  // namespace

Routing route(const MoeConfig& moe, float* logits, int64_t n) {
  const size_t k = size_t(moe.n_per_token);
  Routing out;
  out.expert.resize(size_t(n) * k);
  out.weight.resize(size_t(n) * k);
  share(size_t(n), 10.0 * double(n * moe.n_experts), [&](size_t t) {
    float* p = logits + int64_t(t) * moe.n_experts;
    const float sum = exp_below_max(p, moe.n_experts);
    for (int e = 0; e < moe.n_experts; ++e) p[e] /= sum;
    if (moe.n_group > 1) keep_best_groups(moe, p);
    const std::vector<int32_t> best = largest(p, moe.n_experts, moe.n_per_token);
    float scale = float(moe.routed_scale);
    if (moe.normalize_top_k) {
      float kept = 0;
      for (int32_t e : best) kept += p[e];
      scale /= kept;
    }
    for (size_t i = 0; i < k; ++i) {
      out.expert[t * k + i] = best[i];
      out.weight[t * k + i] = p[best[i]] * scale;
    }
  });
  return out;
}

}  // namespace blockgtq
