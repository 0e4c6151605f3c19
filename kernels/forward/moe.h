#pragma once
#include <cstdint>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// How a mixture of experts chooses. Scores are the softmax or the sigmoid of the router's logits. The
/// n_per_token best experts by score plus bias are taken. With n_group > 1 they come from the topk_group best
/// groups; a group counts as its largest member, or as the sum of its largest two. Weights are the scores
/// without the bias.
struct RoutingRule {
  int n_experts = 0, n_per_token = 0;
  int n_group = 1, topk_group = 1;
  bool normalize = false;  // the chosen weights sum to `scale`
  float scale = 1;
  bool sigmoid = false, group_by_two = false;
  const float* bias = nullptr;  // (n_experts); null: none
};

inline constexpr int kMaxRoutedExperts = 8192;

/// expert, weight (n, n_per_token) from logits (n, n_experts), in falling order of score plus bias, the
/// lowest index first among equals. The indices are always valid, also where a logit is NaN. One launch,
/// which may begin while the preceding kernel ends.
void route(const RoutingRule& rule, const float* logits, int64_t n, int32_t* expert, float* weight,
           const Stream& stream);

/// out row r = in row row[r], for n rows of row_bytes, an even number.
void gather_rows(const void* in, int64_t row_bytes, const int32_t* row, int64_t n, void* out,
                 const Stream& stream);

/// x_t += the sum over i, in order, of weight(t, i) * y row position(t, i). x (n, cols), y
/// (rows, cols), weight and position (n, n_per_token). Every output belongs to one thread, so that the
/// order of the sum is fixed.
void add_weighted_rows(const float* y, const int32_t* position, const float* weight, int64_t n,
                       int n_per_token, int64_t cols, float* x, const Stream& stream);

/// x_t += scale sigmoid(open_t) y_t. x and y (n, cols), open (n): a shared expert and its gate.
void add_gated_rows(const float* y, const float* open, float scale, int64_t n, int64_t cols, float* x,
                    const Stream& stream);

}  // namespace blockgtq::cuda
