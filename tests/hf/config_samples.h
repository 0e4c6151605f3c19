// Short config.json texts, one per dialect: the fields that are read, as published models have them.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "catch.h"
#include "hf/config.h"

namespace blockgtq::test {

inline constexpr const char* kLlama31 =
    R"({"model_type": "llama", "attention_bias": false, "hidden_act": "silu",
  "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false,
  "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 128256})";

inline constexpr const char* kMistralNemo =
    R"({"model_type": "mistral", "head_dim": 128, "hidden_act": "silu",
  "hidden_size": 5120, "intermediate_size": 14336, "max_position_embeddings": 128000, "num_attention_heads": 32,
  "num_hidden_layers": 40, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
  "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 131072})";

inline constexpr const char* kQwen25 = R"({"model_type": "qwen2", "hidden_act": "silu", "hidden_size": 2048,
  "intermediate_size": 11008, "max_position_embeddings": 32768, "max_window_layers": 36, "num_attention_heads": 16,
  "num_hidden_layers": 36, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
  "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_mrope": false,
  "use_sliding_window": false, "vocab_size": 151936})";

inline constexpr const char* kQwen3 = R"({"model_type": "qwen3", "attention_bias": false, "head_dim": 128,
  "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 9728, "max_position_embeddings": 40960,
  "max_window_layers": 36, "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
  "rms_norm_eps": 0.000001, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false, "vocab_size": 151936})";

inline constexpr const char* kQwen3Moe = R"({"model_type": "qwen3_moe", "attention_bias": false,
  "decoder_sparse_step": 1, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 6144,
  "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [], "moe_intermediate_size": 768,
  "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8,
  "num_hidden_layers": 48, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_scaling": null,
  "rope_theta": 1000000.0, "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
  "use_sliding_window": false, "vocab_size": 151936})";

inline constexpr const char* kGlm = R"({"model_type": "glm", "attention_bias": true, "dtype": "bfloat16",
  "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 13696,
  "max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 40, "num_key_value_heads": 2,
  "rms_norm_eps": 1.5625e-07, "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "tie_word_embeddings": false,
  "vocab_size": 151552})";

inline constexpr const char* kChatGlm =
    R"({"model_type": "chatglm", "add_bias_linear": false, "add_qkv_bias": true,
  "apply_residual_connection_post_layernorm": false, "ffn_hidden_size": 13696, "hidden_size": 4096,
  "kv_channels": 128, "layernorm_epsilon": 1.5625e-07, "multi_query_attention": true, "multi_query_group_num": 2,
  "num_attention_heads": 32, "num_hidden_layers": 40, "num_layers": 40, "original_rope": true,
  "padded_vocab_size": 151552, "post_layer_norm": true, "rmsnorm": true, "rope_ratio": 500, "seq_length": 131072,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 151552})";

inline constexpr const char* kDeepSeekV2 = R"({"model_type": "deepseek_v2", "attention_bias": false,
  "dtype": "bfloat16", "first_k_dense_replace": 1, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
  "intermediate_size": 10944, "kv_lora_rank": 512, "max_position_embeddings": 163840, "mlp_bias": false,
  "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2,
  "norm_topk_prob": false, "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27,
  "num_key_value_heads": 16, "q_lora_rank": null, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
  "rms_norm_eps": 1e-06, "rope_parameters": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
    "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096, "rope_theta": 10000, "rope_type": "yarn",
    "type": "yarn"},
  "routed_scaling_factor": 1.0, "scoring_func": "softmax", "tie_word_embeddings": false, "topk_group": 1,
  "topk_method": "greedy", "v_head_dim": 128, "vocab_size": 102400})";

inline Config parse(const std::string& text) {
  return parse_config(parse_json(text, "config.json"), "config.json");
}

/// A sample with the keys of `patch` put in; null removes nothing, it is put in as null.
inline std::string patched(const char* sample, const std::string& patch) {
  Json json = Json::parse(sample);
  const Json changes = Json::parse(patch);
  for (const auto& [key, value] : changes.items()) json[key] = value;
  return json.dump();
}

inline std::string without(const char* sample, const std::string& key) {
  Json json = Json::parse(sample);
  REQUIRE(json.erase(key) == 1);
  return json.dump();
}

/// The error's text; empty when the config is taken.
inline std::string error_of(const std::string& text) {
  try {
    parse(text);
    return "";
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    const std::string what = e.what();
    CHECK(what.find('\n') == std::string::npos);
    return what;
  }
}

}  // namespace blockgtq::test
