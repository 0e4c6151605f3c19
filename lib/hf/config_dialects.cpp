// The dialects with field names of their own: ChatGLM's fused names, and the latent attention of DeepSeek-V2
// and
// V3. Sources: transformers' configuration_*.py and the configuration_chatglm.py in GLM-4 checkpoints.
#include "hf/config_dialects.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "hf/config_rope.h"

namespace blockgtq {

void require_flag(const ConfigFields& config, const std::string& key, bool fallback, bool supported) {
  if (config.flag(key, fallback) == supported) return;
  config.fail(key, fmt::format("{} is not supported: {}", !supported, supported));
}

namespace {

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
  out.rope.theta = 10000 * config.positive_or("rope_ratio", 1);  // as the model defines it
  if (out.rope.theta <= 1) config.fail("rope_ratio", "out of range: 10000 * rope_ratio above 1");
  const std::optional<double> theta = config.number("rope_theta");
  if (theta && *theta != out.rope.theta)
    config.fail("rope_theta", fmt::format("{} differs from 10000 * rope_ratio: {}", *theta, out.rope.theta));
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
  require_flag(config, "multi_query_attention", false, true);  // otherwise q, k and v are interleaved by head
  out.n_kv_heads = config.integer("multi_query_group_num", 1, kMaxHeads);
  out.rms_eps = config.positive_or("layernorm_epsilon", 1e-5);
  out.max_position = config.integer("seq_length", 1, kMaxPositions);
  const bool bias = config.flag("add_bias_linear", false);
  out.qkv_bias = bias || config.flag("add_qkv_bias", false);
  out.o_bias = out.mlp_bias = bias;
  out.attention_scale = 1 / std::sqrt(double(out.head_dim));
  parse_chatglm_rope(config, out);
}

void parse_latent(const ConfigFields& config, Config& out) {
  out.attention = AttentionKind::mla;
  MlaConfig& mla = out.mla;
  if (!config.mentions("q_lora_rank")) config.fail("q_lora_rank", "missing: an integer, or null for none");
  if (config.has("q_lora_rank")) mla.q_lora_rank = config.integer("q_lora_rank", 1, kMaxWidth);
  mla.kv_lora_rank = config.integer("kv_lora_rank", 1, kMaxWidth);
  mla.nope_dim = config.integer("qk_nope_head_dim", 1, kMaxHeadDim);
  mla.rope_dim = config.integer("qk_rope_head_dim", 1, kMaxHeadDim);
  mla.v_dim = config.integer("v_head_dim", 1, kMaxHeadDim);
  // Every head has its own expanded key and value. The heads share the rotary part, which is what is
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
}

}  // namespace blockgtq
