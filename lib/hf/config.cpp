#include "hf/config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "hf/config_dialects.h"
#include "hf/config_fields.h"
#include "hf/config_quantization.h"
#include "hf/config_rope.h"

namespace blockgtq {

namespace {

/// What attention_bias means to a model.
enum class Bias { always_qkv, on_qkvo, on_qkv, never };
/// When its sliding_window is in force.
enum class Window { never, unless_null, opt_in, opt_in_all };

/// A model_type and what transformers assumes where its config is silent.
struct Family {
  const char* model_type;
  Dialect dialect;
  int kv_heads;  // 0: as many as query heads
  int head_dim;  // 0: hidden_size / num_attention_heads
  Bias bias;
  bool bias_default;
  bool mlp_bias;  // mlp_bias has a meaning
  Window window;
};

constexpr std::array<Family, 8> kFamilies = {{
    {"llama", Dialect::llama, 0, 0, Bias::on_qkvo, false, true, Window::never},
    {"mistral", Dialect::llama, 8, 0, Bias::never, false, false, Window::unless_null},
    {"qwen2", Dialect::llama, 0, 0, Bias::always_qkv, true, false, Window::opt_in},
    {"qwen3", Dialect::llama, 0, 128, Bias::on_qkvo, false, false, Window::opt_in},
    {"qwen3_moe", Dialect::llama, 4, 0, Bias::on_qkvo, false, false, Window::opt_in_all},
    {"glm", Dialect::glm, 2, 128, Bias::on_qkv, true, false, Window::never},
    {"chatglm", Dialect::chatglm, 0, 0, Bias::never, false, false, Window::never},
    {"deepseek_v2", Dialect::deepseek_v2, 0, 0, Bias::on_qkvo, false, true, Window::never},
}};

const Family& find_family(const ConfigFields& config) {
  std::string known;
  const std::string type = config.text("model_type", "");
  for (const Family& family : kFamilies) {
    if (type == family.model_type) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  if (type.empty()) config.fail("model_type", "missing: " + known);
  config.fail("model_type", fmt::format("{} is not supported: {}", shown(type), known));
}

/// What changes the computation and is supported nowhere.
void refuse_unsupported(const ConfigFields& config) {
  for (const std::string key : {"text_config", "vision_config", "audio_config"}) {
    if (config.has(key)) config.fail(key, "multimodal models are not supported: a text decoder");
  }
  for (const std::string key : {"hidden_act", "hidden_activation"}) {
    const std::string activation = config.text(key, "silu");
    if (activation != "silu" && activation != "swish")
      config.fail(key, fmt::format("{} is not supported: silu", shown(activation)));
  }
  if (config.flag("use_mrope", false)) config.fail("use_mrope", "multimodal RoPE is not supported: false");
}

/// Whether layer_types names sliding layers; its length and words are checked.
bool has_sliding_layers(const ConfigFields& config, int n_layers) {
  const Json* types = config.find("layer_types");
  if (!types) return false;
  if (!types->is_array() || types->size() != size_t(n_layers))
    config.fail("layer_types",
                fmt::format("{} is not a list of num_hidden_layers: {} words", shown(*types), n_layers));
  bool sliding = false;
  for (const Json& type : *types) {
    if (type == "full_attention") continue;
    if (type != "sliding_attention")
      config.fail("layer_types",
                  fmt::format("{} is not supported: full_attention, sliding_attention", shown(type)));
    sliding = true;
  }
  return sliding;
}

/// Tokens that the shortest-sighted layer sees; 0 where every layer sees all. transformers takes 4096 where a
/// model has windows and does not say how long.
int parse_window(const ConfigFields& config, const Family& family, int n_layers) {
  constexpr int kDefaultWindow = 4096;
  constexpr int kDefaultFullLayers = 28;
  const bool named = has_sliding_layers(config, n_layers);
  const bool null = config.mentions("sliding_window") && !config.has("sliding_window");
  bool active = named;
  switch (family.window) {
    case Window::never:
      break;
    case Window::unless_null:
      active = active || !null;
      break;
    case Window::opt_in:
      if (config.flag("use_sliding_window", false) && !null && !config.has("layer_types"))
        active = config.integer_or("max_window_layers", kDefaultFullLayers, 0, INT32_MAX) < n_layers;
      break;
    case Window::opt_in_all:
      active = active || (config.flag("use_sliding_window", false) && !null);
      break;
  }
  if (!active) return 0;
  if (named && (null || (family.window == Window::never && !config.has("sliding_window"))))
    config.fail("sliding_window", "missing: layer_types names sliding_attention");
  return config.integer_or("sliding_window", kDefaultWindow, 1, kMaxPositions);
}

void parse_biases(const ConfigFields& config, const Family& family, Config& out) {
  const bool asked = config.flag("attention_bias", family.bias_default);
  switch (family.bias) {
    case Bias::always_qkv:  // whatever the config says
      out.qkv_bias = true;
      break;
    case Bias::on_qkvo:
      out.qkv_bias = out.o_bias = asked;
      break;
    case Bias::on_qkv:
      out.qkv_bias = asked;
      break;
    case Bias::never:
      if (asked)
        config.fail("attention_bias", fmt::format("true is not supported for {}: false", family.model_type));
      break;
  }
  out.mlp_bias = config.flag("mlp_bias", false);
  if (out.mlp_bias && !family.mlp_bias)
    config.fail("mlp_bias", fmt::format("true is not supported for {}: false", family.model_type));
}

void check_head_dim(const ConfigFields& config, const std::string& key, int head_dim) {
  if (head_dim % 2 != 0 || head_dim < 2 || head_dim > kMaxHeadDim)
    config.fail(key, fmt::format("{} is not supported: an even number from 2 to {}", head_dim, kMaxHeadDim));
}

/// llama, mistral, qwen2, qwen3, qwen3_moe, glm: the same fields under the same names.
void parse_common(const ConfigFields& config, const Family& family, Config& out) {
  out.n_kv_heads =
      family.kv_heads == 0 || config.mentions("num_key_value_heads") ? out.n_heads : family.kv_heads;
  out.n_kv_heads = config.integer_or("num_key_value_heads", out.n_kv_heads, 1, kMaxHeads);
  if (config.has("head_dim")) {
    out.head_dim = config.integer("head_dim", 1, INT32_MAX);
    check_head_dim(config, "head_dim", out.head_dim);
  } else if (family.head_dim != 0 && !config.mentions("head_dim")) {
    out.head_dim = family.head_dim;
  } else {
    if (out.hidden % out.n_heads != 0)
      config.fail("num_attention_heads",
                  fmt::format("{} does not divide hidden_size: {}", out.n_heads, out.hidden));
    out.head_dim = out.hidden / out.n_heads;
    check_head_dim(config, "hidden_size / num_attention_heads", out.head_dim);
  }
  out.v_dim = out.head_dim;
  out.qk_norm = out.model_type == "qwen3" || out.model_type == "qwen3_moe";
  const bool glm = family.dialect == Dialect::glm;
  out.rope =
      parse_rope(config, {glm ? Pairing::interleaved : Pairing::half, out.head_dim, glm ? 0.5 : 1.0, !glm},
                 out.max_position, out.remarks);
  out.layer_is_moe.assign(size_t(out.n_layers), false);
  if (out.model_type == "qwen3_moe") parse_qwen3_experts(config, out);
}

}  // namespace

const char* embedding_name(Dialect dialect) {
  return dialect == Dialect::chatglm ? "transformer.embedding.word_embeddings.weight"
                                     : "model.embed_tokens.weight";
}

const char* head_name(Dialect dialect) {
  return dialect == Dialect::chatglm ? "transformer.output_layer.weight" : "lm_head.weight";
}

Config parse_config(const Json& json, const std::string& name) {
  const ConfigFields config(json, name);
  const Family& family = find_family(config);
  refuse_unsupported(config);

  const bool chatglm = family.dialect == Dialect::chatglm;
  Config out;
  out.quantized = parse_quantization(config, out.remarks);
  out.model_type = family.model_type;
  out.dialect = family.dialect;
  const std::string layers_key = chatglm ? "num_layers" : "num_hidden_layers";
  out.n_layers = config.integer(layers_key, 1, kMaxLayers);
  out.hidden = config.integer("hidden_size", 1, kMaxWidth);
  out.n_heads = config.integer("num_attention_heads", 1, kMaxHeads);
  out.tied = config.flag("tie_word_embeddings", false);
  out.torch_dtype = config.text("dtype", config.text("torch_dtype", ""));
  if (chatglm) {
    parse_chatglm(config, out);
    check_head_dim(config, "kv_channels", out.head_dim);
  } else {
    out.intermediate = config.integer("intermediate_size", 1, kMaxWidth);
    out.vocab = config.integer("vocab_size", 1, kMaxWidth);
    out.max_position = config.integer("max_position_embeddings", 1, kMaxPositions);
    out.rms_eps = config.positive_or("rms_norm_eps", family.dialect == Dialect::glm ? 1.5625e-7 : 1e-6);
    parse_biases(config, family, out);
    if (family.dialect == Dialect::deepseek_v2) {
      parse_deepseek_v2(config, out);
    } else {
      parse_common(config, family, out);
    }
  }
  if (out.n_heads % out.n_kv_heads != 0)
    config.fail(chatglm ? "multi_query_group_num" : "num_key_value_heads",
                fmt::format("{} does not divide num_attention_heads: {}", out.n_kv_heads, out.n_heads));
  out.sliding_window = parse_window(config, family, out.n_layers);
  return out;
}

}  // namespace blockgtq
