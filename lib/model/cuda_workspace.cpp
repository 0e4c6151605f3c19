#include "model/cuda_workspace.h"

#include "model/attention_layer.h"
#include "model/output_layer.h"

namespace blockgtq {

namespace {

/// Takes n values of the products' type.
void* take_low(Region& region, const RunShape& run, int64_t n) {
  return region.take<std::byte>(n * cuda::bytes_of(run.type));
}

/// Takes (P + T, cols) for all positions, and returns its last T rows.
float* take_grown(Region& region, const RunShape& run, int64_t cols, float*& all) {
  all = region.take<float>((run.past + run.n_tokens) * cols);
  return all ? all + run.past * cols : nullptr;
}

void lay_out_attention(const Config& c, const RunShape& run, Region& region, Workspace& out) {
  const int64_t n = run.n_tokens, heads = c.n_heads;
  if (c.attention == AttentionKind::gqa) {
    out.q = region.take<float>(n * heads * c.head_dim);
    out.k = take_grown(region, run, c.n_kv_heads * c.head_dim, out.all_k);
    out.v = take_grown(region, run, c.n_kv_heads * c.v_dim, out.all_v);
    out.heads = take_low(region, run, n * heads * c.v_dim);
    if (c.gated_output) {
      out.q_gate = region.take<float>(run.slab() * heads * 2 * c.head_dim);
      out.gate = region.take<float>(n * heads * c.head_dim);
    }
    return;
  }
  const MlaConfig& m = c.mla;
  const int64_t expanded = run.past + std::min(n, latent_slab(run.chunk));
  out.q = region.take<float>(n * heads * (m.nope_dim + m.rope_dim));
  out.q_rope = region.take<float>(n * heads * m.rope_dim);
  out.joint = region.take<float>(n * (m.kv_lora_rank + m.rope_dim));
  out.k = take_grown(region, run, m.rope_dim, out.all_k);
  if (m.q_lora_rank > 0) {
    out.q_low = region.take<float>(run.slab() * m.q_lora_rank);
    out.q_in = take_low(region, run, run.slab() * m.q_lora_rank);
  }
  if (run.continues) out.all_latent = region.take<float>((run.past + n) * m.kv_lora_rank);
  out.latent = take_low(region, run, expanded * m.kv_lora_rank);
  out.kv = region.take<float>(expanded * heads * (m.nope_dim + m.v_dim));
  out.key = region.take<float>(expanded * heads * (m.nope_dim + m.rope_dim));
  out.heads = take_low(region, run, n * heads * m.v_dim);
}

void lay_out_delta(const Config& c, const RunShape& run, Region& region, DeltaWorkspace& out) {
  const DeltaConfig& d = c.delta;
  const int64_t n = run.n_tokens, heads = d.n_value_heads, values = heads * d.value_dim;
  const int64_t mixed = 2 * int64_t(d.n_key_heads) * d.key_dim + values;
  out.projected = region.take<float>(run.slab() * (d.fused ? std::max(mixed + values, 2 * heads) : values));
  out.mixed = region.take<float>(n * mixed);
  out.convolved = region.take<float>(n * mixed);
  out.a = region.take<float>(n * heads);
  out.b = region.take<float>(n * heads);
  out.gated = region.take<float>(n * 2 * values);
  out.heads = take_low(region, run, n * values);
}

}  // namespace

void lay_out_feed_forward(const Config& c, const RunShape& run, Region& region, Workspace& out) {
  const int64_t slab = run.slab(), choices = slab * c.moe.n_per_token;
  const bool any_moe = std::find(c.layer_is_moe.begin(), c.layer_is_moe.end(), true) != c.layer_is_moe.end();
  const bool any_dense =
      std::find(c.layer_is_moe.begin(), c.layer_is_moe.end(), false) != c.layer_is_moe.end();
  int64_t wide = any_dense ? slab * c.intermediate : 0;
  if (any_moe) {
    wide = std::max(wide, std::max(choices * c.moe.intermediate, slab * c.moe.shared_intermediate));
    out.in_float = region.take<float>(slab * c.hidden);
    out.router_logits = region.take<float>(slab * c.moe.n_experts);
    if (c.moe.shared_gate) out.open = region.take<float>(slab);
    out.expert = region.take<int32_t>(choices);
    out.weight = region.take<float>(choices);
    out.row_token = region.take<int32_t>(choices);
    out.position = region.take<int32_t>(choices);
    out.gathered = take_low(region, run, choices * c.hidden);
    out.expert_out = region.take<float>(choices * c.hidden);
  }
  out.gate_up = region.take<float>(2 * wide);
  out.act = take_low(region, run, wide);
}

Workspace lay_out(const Config& c, const RunShape& run, Region& region) {
  Workspace out;
  const int64_t table = run.chunk * (c.rope.rotary_dim / 2);
  out.x = region.take<float>(run.n_tokens * c.hidden);
  out.in = take_low(region, run, run.slab() * c.hidden);
  if (c.norm_place == NormPlace::parallel) out.normed = take_low(region, run, run.n_tokens * c.hidden);
  if (c.norm_place == NormPlace::after || c.norm_place == NormPlace::both || c.moe.shared_gate)
    out.out = region.take<float>(run.slab() * c.hidden);
  out.words = region.take<uint64_t>(Workspace::kWords);
  out.cos = region.take<float>(table);
  out.sin = region.take<float>(table);
  if (c.local_rope) {
    out.local_cos = region.take<float>(table);
    out.local_sin = region.take<float>(table);
  }
  out.converted = region.take<std::byte>(run.converted_bytes);
  const int64_t mark = region.mark();
  lay_out_attention(c, run, region, out);
  region.rewind(mark);
  if (c.delta.n_value_heads > 0) lay_out_delta(c, run, region, out.delta);
  region.rewind(mark);
  lay_out_feed_forward(c, run, region, out);
  region.rewind(mark);
  if (run.logits) out.logits = region.take<float>(std::min(run.n_tokens, kLogitTokens) * c.vocab);
  return out;
}

}  // namespace blockgtq
