// The table of model families. A new family is a row here and, where it computes something new, fields in
// Config
// and a golden checkpoint (tests/golden/make_families.py).
#include "hf/families.h"

#include <array>
#include <nlohmann/json.hpp>

namespace blockgtq {

namespace {

constexpr Family kFamilies[] = {
    {.model_type = "llama", .bias = Bias::on_qkvo, .mlp_bias = true},
    {.model_type = "mistral",
     .defaults = R"({"num_key_value_heads": 8, "sliding_window": 4096})",
     .windows = Windows::all},
    {.model_type = "qwen2",
     .defaults = R"({"sliding_window": 4096, "max_window_layers": 28})",
     .bias = Bias::always_qkv,
     .windows = Windows::late},
    {.model_type = "qwen3",
     .defaults = R"({"head_dim": 128, "sliding_window": 4096, "max_window_layers": 28})",
     .bias = Bias::on_qkvo,
     .windows = Windows::late,
     .qk_norm = QkNorm::head},
    {.model_type = "qwen3_moe",
     .defaults = R"({"num_key_value_heads": 4, "sliding_window": 4096})",
     .bias = Bias::on_qkvo,
     .windows = Windows::all_opt_in,
     .experts = ExpertFields::qwen,
     .qk_norm = QkNorm::head},
    {.model_type = "glm",
     .defaults =
         R"({"num_key_value_heads": 2, "head_dim": 128, "attention_bias": true, "rms_norm_eps": 1.5625e-7})",
     .dialect = Dialect::glm,
     .bias = Bias::on_qkv,
     .pairing = Pairing::interleaved,
     .partial = 0.5},
    {.model_type = "chatglm", .dialect = Dialect::chatglm},
    {.model_type = "deepseek_v2",
     .dialect = Dialect::deepseek,
     .bias = Bias::on_qkvo,
     .mlp_bias = true,
     .experts = ExpertFields::deepseek_v2},
    {.model_type = "mixtral",
     .defaults = R"({"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "num_local_experts": 8,
                     "num_experts_per_tok": 2, "sliding_window": null})",
     .windows = Windows::all,
     .experts = ExpertFields::mixtral},
    {.model_type = "qwen2_moe",
     .defaults = R"({"num_key_value_heads": 16, "sliding_window": 4096, "max_window_layers": 28,
                     "num_experts_per_tok": 4, "moe_intermediate_size": 1408, "num_experts": 60,
                     "shared_expert_intermediate_size": 5632})",
     .bias = Bias::qkv_key,
     .windows = Windows::even,
     .experts = ExpertFields::qwen},
    {.model_type = "phi3",
     .defaults =
         R"({"rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096, "sliding_window": null})",
     .dialect = Dialect::phi3,
     .partial = 1,
     .windows = Windows::all},
    {.model_type = "smollm3",
     .defaults = R"({"num_key_value_heads": 4, "tie_word_embeddings": true, "no_rope_layer_interval": 4,
                     "sliding_window": null})",
     .bias = Bias::on_qkvo,
     .mlp_bias = true,
     .windows = Windows::unrotated,
     .no_rope = NoRope::listed},
    {.model_type = "granite", .bias = Bias::on_qkvo, .mlp_bias = true},
    {.model_type = "granitemoe",
     .defaults = R"({"num_local_experts": 8, "num_experts_per_tok": 2})",
     .bias = Bias::on_qkvo,
     .experts = ExpertFields::mixtral},
    {.model_type = "olmo2",
     .defaults = R"({"rms_norm_eps": 1e-5})",
     .bias = Bias::on_qkvo,
     .norm_place = NormPlace::after,
     .qk_norm = QkNorm::full},
    {.model_type = "olmo3",
     .defaults = R"({"rms_norm_eps": 1e-5, "sliding_window": 4096, "sliding_window_pattern": 4})",
     .bias = Bias::on_qkvo,
     .windows = Windows::pattern,
     .local_rope = true,
     .norm_place = NormPlace::after,
     .qk_norm = QkNorm::full},
    {.model_type = "seed_oss",
     .defaults = R"({"num_key_value_heads": 8, "head_dim": 128, "attention_bias": true})",
     .bias = Bias::out_key,
     .mlp_bias = true},
    {.model_type = "exaone4",
     .defaults = R"({"num_key_value_heads": 32, "rms_norm_eps": 1e-5, "sliding_window": 4096,
                     "sliding_window_pattern": 4})",
     .windows = Windows::pattern,
     .no_rope = NoRope::full_layers,
     .norm_place = NormPlace::after,
     .qk_norm = QkNorm::head},
    {.model_type = "ernie4_5",
     .defaults =
         R"({"num_key_value_heads": 2, "head_dim": 128, "rms_norm_eps": 1e-5, "tie_word_embeddings": true})",
     .bias = Bias::use_bias,
     .pairing = Pairing::interleaved},
    {.model_type = "ernie4_5_moe",
     .defaults = R"({"num_key_value_heads": 4, "rms_norm_eps": 1e-5, "tie_word_embeddings": true})",
     .pairing = Pairing::interleaved,
     .experts = ExpertFields::ernie},
    {.model_type = "glm4",
     .defaults =
         R"({"num_key_value_heads": 2, "head_dim": 128, "attention_bias": true, "rms_norm_eps": 1.5625e-7})",
     .dialect = Dialect::glm,
     .bias = Bias::on_qkv,
     .pairing = Pairing::interleaved,
     .partial = 0.5,
     .norm_place = NormPlace::both},
    {.model_type = "glm4_moe",
     .defaults = R"({"num_key_value_heads": 8, "rms_norm_eps": 1e-5})",
     .bias = Bias::on_qkv,
     .partial = 0.5,
     .experts = ExpertFields::deepseek_v3},
    {.model_type = "minimax_m2",
     .defaults = R"({"num_key_value_heads": 8, "head_dim": 128})",
     .partial = 1,
     .experts = ExpertFields::mixtral,
     .qk_norm = QkNorm::full},
    {.model_type = "cohere2",
     .defaults = R"({"tie_word_embeddings": true, "sliding_window": 4096, "sliding_window_pattern": 4,
                     "layer_norm_eps": 1e-5, "logit_scale": 0.0625})",
     .bias = Bias::on_qkvo,
     .pairing = Pairing::interleaved,
     .windows = Windows::pattern,
     .no_rope = NoRope::full_layers,
     .norm_place = NormPlace::parallel,
     .norm_form = NormForm::layer},
    {.model_type = "starcoder2",
     .defaults = R"({"num_key_value_heads": 2, "tie_word_embeddings": true, "hidden_act": "gelu_pytorch_tanh",
                     "norm_epsilon": 1e-5, "use_bias": true, "sliding_window": null})",
     .dialect = Dialect::starcoder2,
     .bias = Bias::use_bias,
     .windows = Windows::all,
     .norm_form = NormForm::layer},
    {.model_type = "gemma2",
     .defaults = R"({"num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": true,
                     "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 256, "sliding_window": 4096,
                     "sliding_window_pattern": 2, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0})",
     .bias = Bias::on_qkvo,
     .windows = Windows::pattern,
     .norm_place = NormPlace::both,
     .norm_offset = 1},
    {.model_type = "gemma3_text",
     .defaults =
         R"({"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
                     "max_position_embeddings": 131072, "tie_word_embeddings": true, "rope_theta": 1000000.0,
                     "rope_local_base_freq": 10000.0, "hidden_activation": "gelu_pytorch_tanh",
                     "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6})",
     .bias = Bias::on_qkvo,
     .windows = Windows::pattern,
     .local_rope = true,
     .norm_place = NormPlace::both,
     .norm_offset = 1,
     .qk_norm = QkNorm::head},
    {.model_type = "gpt_oss",
     .defaults = R"({"num_key_value_heads": 8, "head_dim": 64, "attention_bias": true, "rms_norm_eps": 1e-5,
                     "sliding_window": 128, "sliding_window_pattern": 2})",
     .bias = Bias::on_qkvo,
     .windows = Windows::pattern,
     .experts = ExpertFields::mixtral,
     .sinks = true},
    {.model_type = "deepseek_v3",
     .dialect = Dialect::deepseek,
     .bias = Bias::on_qkvo,
     .experts = ExpertFields::deepseek_v3},
    {.model_type = "kimi_k2",
     .dialect = Dialect::deepseek,
     .bias = Bias::on_qkvo,
     .experts = ExpertFields::deepseek_v3},
    {.model_type = "qwen2_5_vl_text",
     .defaults = R"({"num_key_value_heads": 8, "rms_norm_eps": 1e-5, "sliding_window": 4096,
                     "max_window_layers": 80})",
     .bias = Bias::always_qkv,
     .mrope = true,
     .windows = Windows::late},
    {.model_type = "qwen3_vl_text",
     .defaults = R"({"head_dim": 128})",
     .bias = Bias::on_qkvo,
     .mrope = true,
     .qk_norm = QkNorm::head},
    {.model_type = "qwen3_vl_moe_text",
     .bias = Bias::on_qkvo,
     .mrope = true,
     .experts = ExpertFields::qwen,
     .qk_norm = QkNorm::head},
    {.model_type = "qwen3_next",
     .defaults = R"({"num_key_value_heads": 2, "head_dim": 256, "norm_topk_prob": true})",
     .bias = Bias::on_qkvo,
     .partial = 0.25,
     .experts = ExpertFields::qwen,
     .norm_offset = 1,
     .qk_norm = QkNorm::head,
     .gated_output = true,
     .delta_layers = true},
    {.model_type = "qwen3_5_text",
     .defaults = R"({"num_key_value_heads": 4, "head_dim": 256})",
     .bias = Bias::on_qkvo,
     .partial = 0.25,
     .mrope = true,
     .norm_offset = 1,
     .qk_norm = QkNorm::head,
     .gated_output = true,
     .delta_layers = true},
    {.model_type = "qwen3_5_moe_text",
     .defaults = R"({"num_key_value_heads": 2, "head_dim": 256, "norm_topk_prob": true})",
     .bias = Bias::on_qkvo,
     .partial = 0.25,
     .mrope = true,
     .experts = ExpertFields::qwen,
     .norm_offset = 1,
     .qk_norm = QkNorm::head,
     .gated_output = true,
     .delta_layers = true},
};

/// Vision models whose text tower is one of the families, with the defaults of their text_config. Only text
/// is run. So what the model does between its towers, and to positions of images, does not matter.
struct Tower {
  const char* model_type;
  const char* text_type;
};
constexpr Tower kTowers[] = {
    {"gemma3", "gemma3_text"},
    {"mistral3", "mistral"},
    {"qwen2_5_vl", "qwen2_5_vl_text"},
    {"qwen3_vl", "qwen3_vl_text"},
    {"qwen3_vl_moe", "qwen3_vl_moe_text"},
    {"qwen3_5", "qwen3_5_text"},
    {"qwen3_5_moe", "qwen3_5_moe_text"},
};

}  // namespace

std::span<const Family> families() {
  return kFamilies;
}

const Family& find_family(const ConfigFields& config) {
  std::string known;
  const std::string type = config.text("model_type", "");
  for (const Family& family : kFamilies) {
    if (type == family.model_type) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  if (type.empty()) config.fail("model_type", "missing: " + known);
  for (const Tower& tower : kTowers) known += std::string(", ") + tower.model_type;
  config.fail("model_type", fmt::format("{} is not supported: {}", shown(type), known));
}

Json text_object(const ConfigFields& config) {
  const std::string type = config.text("model_type", "");
  for (const Tower& tower : kTowers) {
    if (type != tower.model_type) continue;
    const Json* text = config.find("text_config");
    if (text && !text->is_object())
      config.fail("text_config", fmt::format("expected an object, found {}", shown(*text)));
    Json out = text ? *text : config.object();  // older folders have everything in one object
    out.erase("vision_config");
    if (!text || !out.contains("model_type") || out["model_type"] == type)
      out["model_type"] = tower.text_type;
    for (const std::string key : {"quantization_config", "compression_config"})
      if (const Json* value = config.find(key)) out[key] = *value;
    for (const std::string key : {"dtype", "torch_dtype"})
      if (const Json* value = config.find(key); value && !out.contains(key)) out[key] = *value;
    if (const Json* tied = config.find("tie_word_embeddings"); tied && *tied == true)
      out["tie_word_embeddings"] = true;
    return out;
  }
  return config.object();
}

}  // namespace blockgtq
