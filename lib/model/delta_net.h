#pragma once
#include <cstdint>

#include "model/weights.h"

namespace blockgtq {

/// y (n, hidden) = the gated delta net of in (n, hidden): what some models have in attention's place. Every
/// chunk starts from an empty state. Per value head, S (key_dim, value_dim): S *= decay_t; S += k_t (beta_t
/// (v_t - S^T k_t))^T; out_t = S^T q_t, with q, k and v after a causal convolution, and q and k of unit
/// length.
void delta_net(const Checkpoint& model, const DeltaWeights& weights, const float* in, int64_t n,
               int64_t chunk, float* y);

}  // namespace blockgtq
