#include <random>

#include "catch.h"
#include "config_samples.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("config: what is refused, by name", "[config]") {
  struct Case {
    const char* sample;
    const char* patch;
    const char* message;
  };
  const Case cases[] = {
      // sizes
      {kLlama31, R"({"num_key_value_heads": 3})",
       "config.json: num_key_value_heads: 3 does not divide num_attention_heads: 32"},
      {kLlama31, R"({"num_key_value_heads": 64})", "num_key_value_heads: 64 does not divide"},
      {kLlama31, R"({"num_hidden_layers": 0})", "num_hidden_layers: 0 is out of range: 1 to 1024"},
      {kLlama31, R"({"num_hidden_layers": -1})", "num_hidden_layers: -1 is out of range"},
      {kLlama31, R"({"num_hidden_layers": 1025})", "num_hidden_layers: 1025 is out of range"},
      {kLlama31, R"({"num_hidden_layers": 18446744073709551615})", "18446744073709551615 is out of range"},
      {kLlama31, R"({"num_attention_heads": 1025})", "num_attention_heads: 1025 is out of range"},
      {kLlama31, R"({"num_attention_heads": 0})", "num_attention_heads: 0"},
      {kLlama31, R"({"num_attention_heads": 24})",
       "num_attention_heads: 24 does not divide hidden_size: 4096"},
      {kLlama31, R"({"hidden_size": 4096.0})", "hidden_size: expected an integer, found 4096.0"},
      {kLlama31, R"({"hidden_size": "4096"})", "hidden_size: expected an integer, found \"4096\""},
      {kLlama31, R"({"hidden_size": true})", "hidden_size: expected an integer, found true"},
      {kLlama31, R"({"hidden_size": null})", "hidden_size: missing"},
      {kLlama31, R"({"hidden_size": 0})", "hidden_size: 0"},
      {kLlama31, R"({"intermediate_size": -5})", "intermediate_size: -5"},
      {kLlama31, R"({"vocab_size": 16777217})", "vocab_size: 16777217 is out of range: 1 to 16777216"},
      {kLlama31, R"({"head_dim": 127})", "head_dim: 127 is not supported: an even number from 2 to 512"},
      {kLlama31, R"({"head_dim": 514})", "head_dim: 514"},
      {kLlama31, R"({"head_dim": 0})", "head_dim: 0"},
      {kLlama31, R"({"num_attention_heads": 2, "num_key_value_heads": 2})",
       "hidden_size / num_attention_heads: 2048"},
      {kLlama31, R"({"rms_norm_eps": 0})", "rms_norm_eps: 0"},
      {kLlama31, R"({"rms_norm_eps": "1e-5"})", "rms_norm_eps: expected a number"},
      {kLlama31, R"({"tie_word_embeddings": 1})", "tie_word_embeddings: expected true or false, found 1"},
      {kLlama31, R"({"torch_dtype": 16})", "torch_dtype: expected a string"},
      // kinds of model
      {kLlama31, R"({"model_type": null})", "model_type: missing"},
      {kLlama31, R"({"model_type": "gemma4_text"})",
       "\"gemma4_text\" is not supported: llama, mistral, qwen2"},
      {kDeepSeekV2, R"({"model_type": "glm_moe_dsa"})", "model_type: \"glm_moe_dsa\" is not supported"},
      {kLlama31, R"({"model_type": "qwen"})", "model_type: \"qwen\" is not supported"},
      {kLlama31, R"({"model_type": "qwen", "quantization_config": {"quant_method": "gptq"}})",
       "model_type: \"qwen\" is not supported"},
      {kLlama31, R"({"model_type": "llama4", "text_config": {"model_type": "llama4_text"}})",
       "model_type: \"llama4\" is not supported"},
      {kLlama31, R"({"model_type": "gemma4", "text_config": {"model_type": "gemma4_text"}})",
       "model_type: \"gemma4\" is not supported"},
      {kLlama31, R"({"model_type": "a\nb"})", R"("a\nb" is not supported)"},
      {kChatGlm, R"({"quantization_bit": 4})", "quantization_bit"},
      {kChatGlm, R"({"vision_config": {"layers": 2}})", "vision_config: multimodal"},
      {kLlama31, R"({"text_config": {}})", "text_config: multimodal"},
      {kLlama31, R"({"hidden_act": "gelu"})", "hidden_act: \"gelu\" is not supported: silu"},
      {kQwen25, R"({"use_mrope": true})", "use_mrope"},
      {kMistralNemo, R"({"attention_bias": true})", "attention_bias: true is not supported for mistral"},
      {kQwen25, R"({"mlp_bias": true})", "mlp_bias: true is not supported for qwen2"},
      {kGlm, R"({"mlp_bias": true})", "mlp_bias"},
      // RoPE
      {kLlama31, R"({"rope_theta": null})", "rope_theta: missing"},
      {kGlm, R"({"rope_theta": null})", "rope_theta: missing"},
      {kDeepSeekV2, R"({"rope_parameters": null})", "rope_theta: missing"},
      {kLlama31, R"({"rope_theta": 0})", "rope_theta: 0"},
      {kLlama31, R"({"rope_theta": 1})", "rope_theta: 1"},
      {kLlama31, R"({"rope_theta": "1e6"})", "rope_theta: expected a number"},
      {kLlama31, R"({"rope_scaling": 8})", "rope_scaling: expected an object"},
      {kLlama31, R"({"rope_scaling": {"type": "longrope"}})",
       "rope_scaling.short_factor: missing: 64 numbers"},
      {kLlama31, R"({"rope_scaling": {"type": "longrope", "short_factor": [1, 2]}})",
       "rope_scaling.short_factor: [1,2] is not a list of 64 numbers"},
      {kLlama31, R"({"rope_scaling": {"type": "mrope"}})", "\"mrope\" is not supported: default, linear"},
      {kLlama31, R"({"rope_scaling": {"type": "default", "mrope_section": [1, 2, 3]}})", "mrope_section"},
      {kLlama31, R"({"rope_scaling": {"type": "yarn", "rope_type": "linear", "factor": 2}})",
       "differs from rope_type"},
      {kLlama31, R"({"rope_scaling": {"factor": 2}})", "rope_scaling.rope_type: missing"},
      {kLlama31, R"({"rope_scaling": {"type": 3}})", "rope_type: expected a string"},
      {kLlama31, R"({"rope_scaling": {"type": "linear"}})", "rope_scaling.factor: missing"},
      {kLlama31, R"({"rope_scaling": {"type": "linear", "factor": 0.5}})",
       "factor: 0.5 is out of range: at least 1"},
      {kLlama31,
       R"({"rope_scaling": {"type": "dynamic", "factor": 2, "original_max_position_embeddings": 7}})",
       "7 differs"},
      {kLlama31, R"({"rope_scaling": {"type": "llama3", "factor": 8}})", "low_freq_factor: missing"},
      {kLlama31,
       R"({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}})",
       "high_freq_factor: 4 is out of range"},
      {kLlama31, R"({"rope_scaling": {"type": "yarn"}})", "rope_scaling.factor: missing"},
      {kLlama31, R"({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2}})",
       "beta_fast: 1"},
      {kLlama31, R"({"rope_scaling": {"type": "yarn", "factor": 2, "attention_factor": 0}})",
       "attention_factor"},
      {kLlama31,
       R"({"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 4096.0}})",
       "expected an integer, found 4096.0"},
      {kLlama31, R"({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}})", "one set per layer type"},
      {kLlama31, R"({"partial_rotary_factor": 0})", "partial_rotary_factor: 0 is out of range"},
      {kLlama31, R"({"partial_rotary_factor": 1.5})", "partial_rotary_factor: 1.5 is out of range"},
      {kGlm, R"({"partial_rotary_factor": 0.0079})", "turns 1 coordinates"},
      {kGlm, R"({"partial_rotary_factor": 0.001})", "turns 0 coordinates"},
      {kGlm, R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}})",
       "partial_rotary_factor: 0.5 differs"},
      {kDeepSeekV2, R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor: 0.5 is not supported"},
      {kLlama31, R"({"partial_rotary_factor": 0.25})",
       "is not supported for this model beside rope_type llama3"},
      // experts
      {kQwen3Moe, R"({"num_experts": null})", "num_local_experts: missing"},
      {kQwen3Moe, R"({"num_local_experts": 64})", "num_local_experts: 64 differs from num_experts: 128"},
      {kQwen3Moe, R"({"num_experts_per_tok": 129})", "num_experts_per_tok: 129 is out of range"},
      {kQwen3Moe, R"({"num_experts_per_tok": 0})", "num_experts_per_tok: 0"},
      {kQwen3Moe, R"({"decoder_sparse_step": 0})", "decoder_sparse_step: 0"},
      {kQwen3Moe, R"({"mlp_only_layers": [48]})", "mlp_only_layers: 48 is not a layer: 0 to 47"},
      {kQwen3Moe, R"({"mlp_only_layers": [-1]})", "mlp_only_layers: -1"},
      {kQwen3Moe, R"({"mlp_only_layers": 3})", "mlp_only_layers: expected a list"},
      {kDeepSeekV2, R"({"scoring_func": "sigmoid"})", "scoring_func: \"sigmoid\" is not supported: softmax"},
      {kDeepSeekV2, R"({"topk_method": "noaux_tc"})", "topk_method: \"noaux_tc\" is not supported"},
      {kDeepSeekV2, R"({"topk_method": "group_limited_greedy", "n_group": 7})", "n_group: 7 does not divide"},
      {kDeepSeekV2, R"({"topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 9})",
       "topk_group: 9"},
      {kDeepSeekV2, R"({"topk_method": "group_limited_greedy", "n_group": 32, "topk_group": 2})",
       "num_experts_per_tok: 6 is out of range: 1 to 4"},
      {kDeepSeekV2, R"({"norm_topk_prob": true})", "norm_topk_prob: true is not supported: false"},
      // latent attention
      {kDeepSeekV2, R"({"num_key_value_heads": 8})", "num_key_value_heads: 8"},
      {kDeepSeekV2, R"({"qk_rope_head_dim": 63})", "qk_rope_head_dim: 63 is odd"},
      {kDeepSeekV2, R"({"qk_rope_head_dim": 514})", "qk_rope_head_dim: 514"},
      {kDeepSeekV2, R"({"kv_lora_rank": 0})", "kv_lora_rank: 0"},
      {kDeepSeekV2, R"({"q_lora_rank": 0})", "q_lora_rank: 0"},
      // chatglm
      {kChatGlm, R"({"rmsnorm": false})", "rmsnorm: false is not supported: true"},
      {kChatGlm, R"({"post_layer_norm": false})", "post_layer_norm"},
      {kChatGlm, R"({"apply_residual_connection_post_layernorm": true})",
       "apply_residual_connection_post_layernorm: true"},
      {kChatGlm, R"({"multi_query_group_num": 3})",
       "multi_query_group_num: 3 does not divide num_attention_heads: 32"},
      {kChatGlm, R"({"num_hidden_layers": 28})", "num_hidden_layers: 28 differs from num_layers: 40"},
      {kChatGlm, R"({"kv_channels": 126})", "kv_channels: 126"},
      {kChatGlm, R"({"kv_channels": 516})", "kv_channels: 516"},
      {kChatGlm, R"({"rope_theta": 10000})", "rope_theta: 10000 differs"},
      {kChatGlm, R"({"rope_scaling": {"type": "linear", "factor": 2}})",
       "rope_scaling: not supported for chatglm"},
      {kChatGlm, R"({"original_rope": false})", "original_rope: false"},
      {kChatGlm, R"({"vocab_size": 151553})", "vocab_size: 151553 is over"},
  };
  for (const Case& c : cases) {
    INFO(c.patch);
    CHECK_THAT(error_of(patched(c.sample, c.patch)), ContainsSubstring(c.message));
  }
  CHECK_THAT(error_of("[]"), ContainsSubstring("config.json: expected a JSON object"));
  CHECK_THAT(error_of(without(kDeepSeekV2, "q_lora_rank")), ContainsSubstring("q_lora_rank: missing"));
  CHECK_THAT(error_of(without(kLlama31, "max_position_embeddings")),
             ContainsSubstring("max_position_embeddings: missing"));
}

TEST_CASE("config: mutated texts never do worse than an error", "[config]") {
  const std::string bytes = "0123456789-.eE\"{}[],:ntaf \xff";
  std::mt19937 random(1);
  int refused = 0;
  for (const char* sample : {kLlama31, kQwen25, kQwen3Moe, kGlm, kChatGlm, kDeepSeekV2}) {
    for (int i = 0; i < 500; ++i) {
      std::string text = sample;
      text[random() % text.size()] = bytes[random() % bytes.size()];
      if (!error_of(text).empty()) ++refused;
    }
  }
  CHECK(refused > 1500);
}
