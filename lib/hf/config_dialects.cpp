// The dialects that spell sizes in their own way: ChatGLM's fused names, DeepSeek-V2's latent attention, and
// the two ways to tell which layers have experts. Sources: transformers' configuration_*.py and the
// configuration_chatglm.py that GLM-4 checkpoints carry.
#include "hf/config_dialects.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "hf/config_rope.h"

namespace blockgtq {

namespace {

/// A setting that changes the computation and of which only one value is supported.
void require_flag(const ConfigFields& config, const std::string& key, bool fallback, bool supported) {
  if (config.flag(key, fallback) == supported) return;
  config.fail(key, fmt::format("{} is not supported: {}", !supported, supported));
}

void parse_chatglm_rope(const ConfigFields& config, Config& out) {
  for (const std::string key : {"rope_scaling", "rope_parameters", "partial_rotary_factor"}) {
    if (config.has(key))
      config.fail(key, "not supported for chatglm, whose RoPE is rope_ratio and kv_channels");
  }
  require_flag(config, "original_rope", true, true);
  if (out.head_dim % 4 != 0)
    config.fail("kv_channels",
                fmt::format("{} is not supported: half of it turns, so a multiple of 4", out.head_dim));
  out.rope.pairing = Pairing::interleaved;
  out.rope.rotary_dim = out.head_dim / 2;
  out.rope.theta = 10000 * config.positive_or("rope_ratio", 1);  // the model's own definition
  if (out.rope.theta <= 1) config.fail("rope_ratio", "out of range: 10000 * rope_ratio above 1");
  const std::optional<double> theta = config.number("rope_theta");
  if (theta && *theta != out.rope.theta)
    config.fail("rope_theta", fmt::format("{} differs from 10000 * rope_ratio: {}", *theta, out.rope.theta));
}

/// Fields that both kinds of expert layers share.
void parse_experts(const ConfigFields& config, Config& out) {
  out.moe.intermediate = config.integer("moe_intermediate_size", 1, kMaxWidth);
  out.moe.n_per_token = config.integer("num_experts_per_tok", 1, kMaxExperts);
  if (out.moe.n_per_token > out.moe.n_experts)
    config.fail("num_experts_per_tok", fmt::format("{} is out of range: 1 to {}, the number of experts",
                                                   out.moe.n_per_token, out.moe.n_experts));
}

/// A model none of whose layers has experts is dense.
void settle_experts(Config& out) {
  const auto& moe = out.layer_is_moe;
  if (std::find(moe.begin(), moe.end(), true) == moe.end()) out.moe = MoeConfig{};
}

void parse_expert_groups(const ConfigFields& config, Config& out) {
  const std::string method = config.text("topk_method", "greedy");
  if (method == "greedy") return;
  if (method != "group_limited_greedy")
    config.fail("topk_method",
                fmt::format("{} is not supported: greedy, group_limited_greedy", shown(method)));
  MoeConfig& moe = out.moe;
  moe.n_group = config.integer("n_group", 1, moe.n_experts);
  moe.topk_group = config.integer("topk_group", 1, moe.n_group);
  if (moe.n_experts % moe.n_group != 0)
    config.fail("n_group",
                fmt::format("{} does not divide n_routed_experts: {}", moe.n_group, moe.n_experts));
  const int reachable = moe.topk_group * (moe.n_experts / moe.n_group);
  if (moe.n_per_token > reachable)
    config.fail("num_experts_per_tok",
                fmt::format("{} is out of range: 1 to {}, the experts of topk_group groups", moe.n_per_token,
                            reachable));
}

void parse_deepseek_experts(const ConfigFields& config, Config& out) {
  out.layer_is_moe.assign(size_t(out.n_layers), false);
  if (!config.mentions("n_routed_experts"))
    config.fail("n_routed_experts", "missing: an integer, or null for none");
  out.moe.n_experts = config.integer_or("n_routed_experts", 0, 0, kMaxExperts);
  if (out.moe.n_experts == 0) return;
  parse_experts(config, out);
  const std::string scoring = config.text("scoring_func", "softmax");
  if (scoring != "softmax")
    config.fail("scoring_func", fmt::format("{} is not supported: softmax", shown(scoring)));
  // The published model code and transformers disagree on what this means; every released model has false.
  require_flag(config, "norm_topk_prob", false, false);
  if (!config.mentions("n_shared_experts"))
    config.fail("n_shared_experts", "missing: an integer, or null for none");
  out.moe.n_shared = config.integer_or("n_shared_experts", 0, 0, kMaxExperts);
  out.moe.routed_scale = config.positive_or("routed_scaling_factor", 1);
  parse_expert_groups(config, out);
  const int first = config.integer_or("first_k_dense_replace", 0, 0, kMaxLayers);
  const int every = config.integer_or("moe_layer_freq", 1, 1, kMaxLayers);
  for (int i = first; i < out.n_layers; ++i) out.layer_is_moe[size_t(i)] = i % every == 0;
  settle_experts(out);
}

}  // namespace

void parse_chatglm(const ConfigFields& config, Config& out) {
  if (config.integer_or("quantization_bit", 0, 0, 64) != 0)
    config.fail("quantization_bit", "quantized weights are not supported: F32, F16 and BF16 are");
  const int layers = config.integer_or("num_hidden_layers", out.n_layers, 1, kMaxLayers);
  if (layers != out.n_layers)
    config.fail("num_hidden_layers", fmt::format("{} differs from num_layers: {}", layers, out.n_layers));
  require_flag(config, "rmsnorm", true, true);
  require_flag(config, "post_layer_norm", true, true);
  require_flag(config, "apply_residual_connection_post_layernorm", false, false);
  out.vocab = config.integer("padded_vocab_size", 1, kMaxWidth);
  const int vocab = config.integer_or("vocab_size", out.vocab, 1, kMaxWidth);
  if (vocab > out.vocab)
    config.fail("vocab_size", fmt::format("{} is over padded_vocab_size: {}", vocab, out.vocab));
  out.intermediate = config.integer("ffn_hidden_size", 1, kMaxWidth);
  out.head_dim = out.v_dim = config.integer("kv_channels", 1, kMaxHeadDim);
  require_flag(config, "multi_query_attention", false, true);  // otherwise q, k and v lie interleaved by head
  out.n_kv_heads = config.integer("multi_query_group_num", 1, kMaxHeads);
  out.rms_eps = config.positive_or("layernorm_epsilon", 1e-5);
  out.max_position = config.integer("seq_length", 1, kMaxPositions);
  const bool bias = config.flag("add_bias_linear", false);
  out.qkv_bias = bias || config.flag("add_qkv_bias", false);
  out.o_bias = out.mlp_bias = bias;
  out.layer_is_moe.assign(size_t(out.n_layers), false);
  parse_chatglm_rope(config, out);
}

void parse_deepseek_v2(const ConfigFields& config, Config& out) {
  out.attention = AttentionKind::mla;
  MlaConfig& mla = out.mla;
  if (!config.mentions("q_lora_rank")) config.fail("q_lora_rank", "missing: an integer, or null for none");
  if (config.has("q_lora_rank")) mla.q_lora_rank = config.integer("q_lora_rank", 1, kMaxWidth);
  mla.kv_lora_rank = config.integer("kv_lora_rank", 1, kMaxWidth);
  mla.nope_dim = config.integer("qk_nope_head_dim", 1, kMaxHeadDim);
  mla.rope_dim = config.integer("qk_rope_head_dim", 1, kMaxHeadDim);
  mla.v_dim = config.integer("v_head_dim", 1, kMaxHeadDim);
  // Every head has its own expanded key and value; the heads share the rotary part, which is what is
  // quantized.
  const int kv_heads = config.integer_or("num_key_value_heads", out.n_heads, 1, kMaxHeads);
  if (kv_heads != out.n_heads)
    config.fail("num_key_value_heads",
                fmt::format("{} is not supported: num_attention_heads: {}", kv_heads, out.n_heads));
  out.n_kv_heads = 1;
  out.head_dim = mla.rope_dim;
  out.v_dim = 0;
  require_flag(config, "rope_interleave", true, true);
  if (mla.rope_dim % 2 != 0)
    config.fail("qk_rope_head_dim", fmt::format("{} is odd: an even number", mla.rope_dim));
  out.rope = parse_rope(config, {Pairing::interleaved, out.head_dim}, out.max_position, out.remarks);
  parse_deepseek_experts(config, out);
}

void parse_qwen3_experts(const ConfigFields& config, Config& out) {
  const bool old_name = config.has("num_experts");
  const std::string key = old_name ? "num_experts" : "num_local_experts";
  out.moe.n_experts = config.integer(key, 0, kMaxExperts);
  const int other = config.integer_or("num_local_experts", out.moe.n_experts, 0, kMaxExperts);
  if (other != out.moe.n_experts)
    config.fail("num_local_experts",
                fmt::format("{} differs from num_experts: {}", other, out.moe.n_experts));
  if (out.moe.n_experts == 0) return;
  parse_experts(config, out);
  out.moe.normalize_top_k = config.flag("norm_topk_prob", false);
  const int step = config.integer_or("decoder_sparse_step", 1, 1, kMaxLayers);
  for (int i = 0; i < out.n_layers; ++i) out.layer_is_moe[size_t(i)] = (i + 1) % step == 0;
  if (const Json* dense = config.find("mlp_only_layers")) {
    if (!dense->is_array())
      config.fail("mlp_only_layers", fmt::format("expected a list, found {}", shown(*dense)));
    for (const Json& layer : *dense) {
      if (!layer.is_number_unsigned() || layer.get<uint64_t>() >= uint64_t(out.n_layers))
        config.fail("mlp_only_layers",
                    fmt::format("{} is not a layer: 0 to {}", shown(layer), out.n_layers - 1));
      out.layer_is_moe[layer.get<size_t>()] = false;
    }
  }
  settle_experts(out);
}

}  // namespace blockgtq
