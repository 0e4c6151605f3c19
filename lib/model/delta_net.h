#pragma once
#include <cstdint>

#include "model/weights.h"

namespace blockgtq {

/// y (n, hidden) = the gated delta net of in (n, hidden), which some models have in place of attention. Every
/// chunk starts from an empty state S (key_dim, value_dim) per value head:
///   S *= decay_t;  S += k_t (beta_t (v_t - S^T k_t))^T;  out_t = S^T q_t.
/// q, k and v are taken after a causal convolution, and q and k have unit length.
void delta_net(const Checkpoint& model, const DeltaWeights& weights, const float* in, int64_t n,
               int64_t chunk, float* y);

}  // namespace blockgtq
