// The sizes of the buffers of the CPU's forward pass, from the constants that it uses. Each thread takes some
// MiB more for converted weights and scores.
#include <algorithm>

#include "model/attention_layer.h"
#include "model/backend.h"
#include "model/mlp.h"
#include "model/output_layer.h"
#include "model/run_cost.h"
#include "model/weights.h"

namespace blockgtq {

namespace {

/// Floats of one layer's attention over n tokens.
int64_t attention_floats(const Config& c, int64_t n, int64_t chunk) {
  const int64_t heads = c.n_heads;
  if (c.attention == AttentionKind::gqa) {
    const int64_t queries_and_keys = (heads + c.n_kv_heads) * c.head_dim;
    // a gate is split from its query through a copy of both
    const int64_t gates = c.gated_output ? 2 * heads * c.head_dim : 0;
    const DeltaConfig& d = c.delta;
    const int64_t keys = int64_t(d.n_key_heads) * d.key_dim, values = int64_t(d.n_value_heads) * d.value_dim;
    const int64_t delta = 4 * keys + 5 * values;  // projections, split and convolved, and heads
    const int64_t packed = c.n_kv_heads * (c.head_dim + c.v_dim);
    return n * std::max(queries_and_keys + gates + (heads + c.n_kv_heads) * c.v_dim + packed, delta);
  }
  const MlaConfig& m = c.mla;
  const int64_t key_dim = m.nope_dim + m.rope_dim;
  const int64_t per_token = heads * (key_dim + m.rope_dim + m.v_dim) + 2 * (m.kv_lora_rank + m.rope_dim);
  return n * per_token + std::min(n, latent_slab(chunk)) * heads * (m.nope_dim + 2 * m.v_dim + 2 * key_dim);
}

/// Floats of the feed-forward part of the widest layer.
int64_t feed_forward_floats(const Config& c, int64_t n) {
  const int64_t slab = std::min(n, kSlabTokens);
  int64_t most = 0;
  for (bool moe : c.layer_is_moe) {
    if (moe) {
      const int64_t width = std::max(c.moe.intermediate, c.moe.shared_intermediate);
      const int64_t per_token = c.hidden + c.moe.n_experts + 2 * c.moe.n_per_token;
      most = std::max(most, n * per_token + slab * 2 * (c.hidden + width));
    } else {
      most = std::max(most, slab * 2 * (int64_t(c.hidden) + c.intermediate));
    }
  }
  return most;
}

}  // namespace

int64_t activation_bytes(const Config& c, int64_t n_tokens, int64_t chunk, bool logits) {
  chunk = chunk == 0 ? n_tokens : std::min(chunk, n_tokens);
  int64_t most = std::max(attention_floats(c, n_tokens, chunk), feed_forward_floats(c, n_tokens));
  if (logits) most = std::max(most, std::min(chunk, kLogitTokens) * (int64_t(c.hidden) + c.vocab));
  const int64_t streams = c.norm_place == NormPlace::parallel ? 3 : 2, tables = c.local_rope ? 2 : 1;
  return 4 * (streams * n_tokens * c.hidden + tables * chunk * c.rope.rotary_dim + most);
}

MemoryPlan plan_memory(const Checkpoint& model, int64_t n_tokens, int64_t chunk, bool logits) {
  MemoryPlan plan;
  plan.activation_bytes = activation_bytes(model.config(), n_tokens, chunk, logits);
  for (int layer = 0; layer < model.config().n_layers; ++layer) {
    const LayerWeights weights = layer_weights(model, layer);
    int64_t bytes = 0;
    for (const Tensor* tensor : weights.all()) bytes += tensor->stored_bytes();
    plan.layer_bytes = std::max(plan.layer_bytes, bytes);
  }
  return plan;
}

}  // namespace blockgtq
