// Converts a GGUF file's metadata to the fields of config.json. Sources: llama.cpp, src/llama-arch.cpp for
// the keys,
// src/llama-model.cpp and src/models/*.cpp for the defaults, conversion/*.py for the opposite direction.
#include "hf/gguf_config.h"

#include <nlohmann/json.hpp>

#include "hf/config.h"
#include "hf/config_fields.h"
#include "hf/gguf_keys.h"
#include "hf/gguf_rope.h"

namespace blockgtq {

namespace {

constexpr const char* kOriginalLength = "rope.scaling.original_context_length";

/// A key (without "llama.") that changes the computation. It is supported for one model type or for none.
struct KnownKey {
  const char* key;
  const char* reader = "";
};
constexpr KnownKey kComputing[] = {{"attention.scale", "granite"},
                                   {"logit_scale", "granite"},
                                   {"residual_scale", "granite"},
                                   {"embedding_scale", "granite"},
                                   {"attn_logit_softcapping", "gemma2"},
                                   {"final_logit_softcapping", "gemma2"},
                                   {"attention.clamp_kqv"},
                                   {"attention.max_alibi_bias"},
                                   {"attention.temperature_scale"},
                                   {"attention.sliding_window_pattern"},
                                   {"attention.key_length_swa"},
                                   {"attention.value_length_swa"},
                                   {"attention.shared_kv_layers"},
                                   {"rope.dimension_sections"},
                                   {"rope.dimension_count_swa"},
                                   {"rope.scaling.yarn_log_multiplier"},
                                   {"swiglu_clamp_exp"}};

void refuse_unsupported(const GgufKeys& keys, const std::string& model_type) {
  const GgufMetadata& metadata = keys.metadata();
  if (const std::string type = metadata.text("general.type", "model"); type != "model")
    metadata.fail("general.type", fmt::format("{} is not a model", shown(type)));
  for (const auto& [key, reader] : kComputing) {
    if (keys.has(key) && model_type != reader) keys.fail(key, "is not supported");
  }
  if (!keys.flag("rope.scaling.finetuned", true) && model_type == "granite")  // src/models/granite.cpp
    keys.fail("rope.scaling.finetuned", "false is not supported for granite: true");
  if (!keys.flag("attention.causal", true)) keys.fail("attention.causal", "false is not supported: true");
}

/// The type of products where a GPU may choose. For quantized numbers it is one that loses nothing.
const char* torch_dtype(const std::map<std::string, Tensor>& tensors) {
  const auto it = tensors.find("blk.0.attn_output.weight");
  if (it == tensors.end()) return "float32";
  return it->second.dtype == DType::f16    ? "float16"
         : it->second.dtype == DType::bf16 ? "bfloat16"
                                           : "float32";
}

int64_t vocabulary(const GgufKeys& keys, const GgufMetadata& metadata,
                   const std::map<std::string, Tensor>& tensors) {
  if (keys.has("vocab_size")) return keys.integer("vocab_size", 1, kMaxWidth);
  const auto embedding = tensors.find("token_embd.weight");
  if (embedding == tensors.end()) metadata.fail("token_embd.weight", "the tensor is missing");
  return embedding->second.shape[0];
}

/// Exit::input unless settings of experts have their one supported value.
void check_experts(const GgufKeys& keys, const std::string& model_type) {
  constexpr int64_t kSoftmax = 1, kSoftmaxOfChosen = 3;  // src/llama-hparams.h
  if (keys.integer_or("expert_shared_count", 0, 0, kMaxExperts) != 0)
    keys.fail("expert_shared_count", "shared experts are not supported: 0");
  if (keys.integer_or("expert_shared_feed_forward_length", 0, 0, kMaxWidth) != 0 && model_type != "qwen2_moe")
    keys.fail("expert_shared_feed_forward_length", "shared experts are not supported: 0");
  if (const double scale = keys.number("expert_weights_scale").value_or(1); scale != 1 && scale != 0)
    keys.fail("expert_weights_scale", fmt::format("{} is not supported: 1", scale));
  const int64_t usual = model_type == "gpt_oss" ? kSoftmaxOfChosen : kSoftmax;
  if (const int64_t gate = keys.integer_or("expert_gating_func", 0, 0, INT32_MAX); gate != 0 && gate != usual)
    keys.fail("expert_gating_func", fmt::format("{} is not supported: {}", gate, usual));
  if (const int64_t groups = keys.integer_or("expert_group_count", 0, 0, kMaxExperts); groups > 1)
    keys.fail("expert_group_count", fmt::format("{} is not supported: 1", groups));
}

void add_experts(const GgufKeys& keys, const std::string& model_type, Json& out) {
  const int64_t experts = keys.integer_or("expert_count", 0, 0, kMaxExperts);
  const bool qwen = model_type == "qwen2_moe" || model_type == "qwen3_moe",
             mixtral = model_type == "mixtral" || model_type == "gpt_oss";
  if (!qwen && !mixtral) {
    if (experts != 0)
      keys.fail("expert_count", fmt::format("{} is not supported for {}: 0", experts,
                                            keys.metadata().text("general.architecture", "")));
    return;
  }
  check_experts(keys, model_type);
  const int64_t used = keys.integer("expert_used_count", 1, kMaxExperts);
  out["num_experts_per_tok"] = used;
  if (mixtral) {
    out["num_local_experts"] = experts;
    if (model_type == "gpt_oss")
      out["intermediate_size"] = keys.integer("expert_feed_forward_length", 1, kMaxWidth);
    return;
  }
  out["num_experts"] = experts;
  out["decoder_sparse_step"] = 1;
  out["mlp_only_layers"] = Json::array();
  if (model_type == "qwen3_moe") {
    out["moe_intermediate_size"] = keys.integer("expert_feed_forward_length", 1, kMaxWidth);
    out["norm_topk_prob"] = keys.flag("expert_weights_norm", true);
    return;
  }
  // src/models/qwen2moe.cpp: the defaults of the widths; weights are not normalized to a sum of 1.
  const int64_t width = keys.integer("feed_forward_length", 1, kMaxWidth),
                own = keys.integer_or("expert_feed_forward_length", 0, 0, kMaxWidth),
                shared = keys.integer_or("expert_shared_feed_forward_length", 0, 0, kMaxWidth);
  out["moe_intermediate_size"] = own ? own : width / used;
  out["shared_expert_intermediate_size"] = shared ? shared : width;
  out["norm_topk_prob"] = false;
}

/// Which layers have a window depends on the architecture. The rules in src/models/*.cpp (set_swa_pattern)
/// are those of families.cpp: gemma2 and gpt-oss have every 2nd layer without one, gemma3 every 6th, mistral,
/// mixtral and phi3 none.
void add_window(const GgufKeys& keys, Json& out) {
  const char* key = "attention.sliding_window";
  const std::string type = out["model_type"];
  const bool named = type == "gemma3_text" || type == "gpt_oss";
  if (named) {
    out["sliding_window"] = keys.integer(key, 1, kMaxPositions);
    return;
  }
  // Older files of phi3 lack the key although their models have a window.
  const int64_t window =
      type == "phi3" ? keys.integer(key, 0, kMaxPositions) : keys.integer_or(key, 0, 0, kMaxPositions);
  if (window == 0) return;
  if (type != "llama" && type != "mixtral" && type != "phi3" && type != "gemma2")
    keys.fail(key, fmt::format("{} is not supported: 0", window));
  if (type == "llama") {
    out["model_type"] = "mistral";  // a llama with a window on all layers
    out["architectures"] = {"MistralForCausalLM"};
  }
  out["sliding_window"] = window;
}

/// src/models/gemma2.cpp and gemma3.cpp: the largest model scales q differently, and the caps have defaults.
void add_gemma(const GgufKeys& keys, Json& out) {
  const bool second = out["model_type"] == "gemma2";
  out.erase("hidden_act");
  out["hidden_activation"] = "gelu_pytorch_tanh";
  const bool largest = out["num_hidden_layers"] == (second ? 46 : 62);
  const int64_t hidden = out["hidden_size"], heads = out["num_attention_heads"];
  out["query_pre_attn_scalar"] = largest ? Json(hidden / heads) : out["head_dim"];
  for (const std::string cap : {"attn_logit_softcapping", "final_logit_softcapping"})
    if (second && keys.has(cap)) out[cap] = keys.positive(cap);
}

/// src/models/granite.cpp: a value that is 0 or missing has no effect.
void add_granite(const GgufKeys& keys, Json& out) {
  out["logits_scaling"] = keys.positive("logit_scale");
  for (const auto& [key, field] : {std::pair{"attention.scale", "attention_multiplier"},
                                   {"residual_scale", "residual_multiplier"},
                                   {"embedding_scale", "embedding_multiplier"}})
    if (keys.number(key).value_or(0) != 0) out[field] = keys.positive(key);
}

void add_biases(const std::string& model_type, const std::map<std::string, Tensor>& tensors, Json& out) {
  const bool bias = tensors.count("blk.0.attn_q.bias") > 0;
  if (model_type == "qwen2_moe") {
    out["qkv_bias"] = bias;
  } else if (model_type != "qwen2") {
    out["attention_bias"] = bias;
  }
  if (model_type == "llama" || model_type == "smollm3" || model_type == "granite")
    out["mlp_bias"] = tensors.count("blk.0.ffn_gate.bias") > 0;
}

}  // namespace

Json gguf_config(const GgufArchitecture& architecture, const GgufMetadata& metadata,
                 const std::map<std::string, Tensor>& tensors) {
  const GgufKeys keys(architecture.name, metadata);
  const std::string model_type = architecture.model_type;
  refuse_unsupported(keys, model_type);
  Json out;
  out["architectures"] = {architecture.class_name};
  out["model_type"] = architecture.model_type;
  const int64_t hidden = keys.integer("embedding_length", 1, kMaxWidth);
  const int64_t heads = keys.integer("attention.head_count", 1, kMaxHeads);
  out["hidden_size"] = hidden;
  out["num_hidden_layers"] = keys.integer("block_count", 1, kMaxLayers);
  out["num_attention_heads"] = heads;
  out["num_key_value_heads"] = keys.integer_or("attention.head_count_kv", heads, 1, kMaxHeads);
  out["intermediate_size"] = keys.integer("feed_forward_length", 1, kMaxWidth);
  out["vocab_size"] = vocabulary(keys, metadata, tensors);
  out["max_position_embeddings"] = keys.integer("context_length", 1, kMaxPositions);
  out["rms_norm_eps"] = keys.positive("attention.layer_norm_rms_epsilon");
  if (!keys.has("attention.key_length") && hidden % heads != 0)
    keys.fail("attention.head_count", fmt::format("{} does not divide embedding_length: {}", heads, hidden));
  const int64_t head_dim = keys.integer_or("attention.key_length", hidden / heads, 2, kMaxHeadDim);
  const int64_t v_dim = keys.integer_or("attention.value_length", head_dim, 1, kMaxHeadDim);
  if (v_dim != head_dim)
    keys.fail("attention.value_length",
              fmt::format("{} is not supported: {}, the key_length", v_dim, head_dim));
  out["head_dim"] = head_dim;
  out["rope_parameters"] = gguf_rope_parameters(architecture, keys, tensors, head_dim);
  out["hidden_act"] = "silu";
  out["tie_word_embeddings"] = tensors.count("output.weight") == 0;
  out["dtype"] = torch_dtype(tensors);
  add_biases(model_type, tensors, out);
  add_experts(keys, model_type, out);
  add_window(keys, out);
  if (model_type == "gemma2" || model_type == "gemma3_text") add_gemma(keys, out);
  if (model_type == "granite") add_granite(keys, out);
  if (model_type == "phi3" && keys.has(kOriginalLength))
    out["original_max_position_embeddings"] = keys.integer(kOriginalLength, 1, kMaxPositions);
  for (const std::string token : {"bos", "eos"}) {
    const std::string key = "tokenizer.ggml." + token + "_token_id";
    if (metadata.has(key)) out[token + "_token_id"] = metadata.integer(key, 0, INT32_MAX);
  }
  return out;
}

}  // namespace blockgtq
