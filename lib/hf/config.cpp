#include "hf/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "hf/config_dialects.h"
#include "hf/config_fields.h"
#include "hf/config_quantization.h"
#include "hf/config_rope.h"
#include "hf/families.h"

namespace blockgtq {

namespace {

constexpr std::array<std::pair<const char*, Activation>, 3> kActivations = {
    {{"silu", Activation::silu}, {"swish", Activation::silu}, {"gelu_pytorch_tanh", Activation::gelu_tanh}}};

/// Exit::input for settings that change the computation and that no family supports.
void refuse_unsupported(const ConfigFields& config) {
  for (const std::string key : {"text_config", "vision_config", "audio_config"}) {
    if (config.has(key)) config.fail(key, "multimodal models are not supported: a text decoder");
  }
  if (config.flag("use_mrope", false)) config.fail("use_mrope", "multimodal RoPE is not supported: false");
  for (const std::string key : {"use_bidirectional_attention", "num_kv_shared_layers"}) {
    const Json* value = config.find(key);
    if (value && *value != false && *value != 0)
      config.fail(key, fmt::format("{} is not supported: false", shown(*value)));
  }
}

Activation parse_activation(const ConfigFields& config) {
  const std::string key = config.has("hidden_activation") ? "hidden_activation" : "hidden_act";
  const std::string name = config.text(key, "silu");
  for (const auto& [known, activation] : kActivations) {
    if (name == known) return activation;
  }
  config.fail(key, fmt::format("{} is not supported: silu, gelu_pytorch_tanh", shown(name)));
}

void parse_biases(const ConfigFields& config, const Family& family, Config& out) {
  const bool asked = config.flag("attention_bias", false);
  out.mlp_bias = config.flag("mlp_bias", false);
  if (out.mlp_bias && !family.mlp_bias)
    config.fail("mlp_bias", fmt::format("true is not supported for {}: false", family.model_type));
  if (family.bias != Bias::use_bias && config.flag("use_bias", false))
    config.fail("use_bias", fmt::format("true is not supported for {}: false", family.model_type));
  switch (family.bias) {
    case Bias::always_qkv:
      out.qkv_bias = true;
      break;
    case Bias::on_qkvo:
      out.qkv_bias = out.o_bias = asked;
      break;
    case Bias::on_qkv:
      out.qkv_bias = asked;
      break;
    case Bias::qkv_key:
      out.qkv_bias = config.flag("qkv_bias", true);
      break;
    case Bias::out_key:
      out.qkv_bias = asked;
      out.o_bias = config.flag("attention_out_bias", false);
      break;
    case Bias::use_bias:
      out.qkv_bias = out.o_bias = out.mlp_bias = config.flag("use_bias", false);
      break;
    case Bias::never:
      if (asked)
        config.fail("attention_bias", fmt::format("true is not supported for {}: false", family.model_type));
      break;
  }
}

void check_head_dim(const ConfigFields& config, const std::string& key, int head_dim) {
  if (head_dim % 2 != 0 || head_dim < 2 || head_dim > kMaxHeadDim)
    config.fail(key, fmt::format("{} is not supported: an even number from 2 to {}", head_dim, kMaxHeadDim));
}

double or_zero(const ConfigFields& config, const std::string& key) {
  return config.has(key) ? config.positive(key) : 0;
}

/// Factors and caps of a family: 1 and 0 where it has none.
void parse_scales(const ConfigFields& config, Config& out) {
  out.attention_scale = 1 / std::sqrt(config.positive_or("query_pre_attn_scalar", out.head_dim));
  if (config.has("attention_multiplier")) out.attention_scale = config.positive("attention_multiplier");
  out.attention_softcap = or_zero(config, "attn_logit_softcapping");
  out.logits_softcap = or_zero(config, "final_logit_softcapping");
  out.embedding_multiplier = config.positive_or("embedding_multiplier", 1);
  out.residual_multiplier = config.positive_or("residual_multiplier", 1);
  out.logits_multiplier = config.positive_or("logit_scale", 1) / config.positive_or("logits_scaling", 1);
  if (out.norm_offset != 0 && out.norm_place == NormPlace::both)  // Gemma
    out.embedding_multiplier = std::sqrt(double(out.hidden));
  if (out.sinks) {  // gpt_oss
    out.activation = Activation::clamped;
    out.swiglu_limit = config.positive_or("swiglu_limit", 7);
    out.swiglu_alpha = config.positive_or("swiglu_alpha", 1.702);
  }
}

/// The fields of all families that have keys and values per head, under their common names.
void parse_common(const ConfigFields& config, const Family& family, Config& out) {
  out.n_kv_heads = config.integer_or("num_key_value_heads", out.n_heads, 1, kMaxHeads);
  if (config.has("head_dim")) {
    out.head_dim = config.integer("head_dim", 1, INT32_MAX);
    check_head_dim(config, "head_dim", out.head_dim);
  } else {
    if (out.hidden % out.n_heads != 0)
      config.fail("num_attention_heads",
                  fmt::format("{} does not divide hidden_size: {}", out.n_heads, out.hidden));
    out.head_dim = out.hidden / out.n_heads;
    check_head_dim(config, "hidden_size / num_attention_heads", out.head_dim);
  }
  out.v_dim = out.head_dim;
  parse_scales(config, out);
  parse_layers(config, family, out);
}

Config parse_decoder(const ConfigFields& config, const Family& family) {
  const bool chatglm = family.dialect == Dialect::chatglm;
  Config out;
  out.quantized = parse_quantization(config, out.remarks);
  out.model_type = family.model_type;
  out.dialect = family.dialect;
  out.qk_norm = config.flag("use_qk_norm", false) ? QkNorm::head : QkNorm::none;
  if (family.qk_norm != QkNorm::none) out.qk_norm = family.qk_norm;
  out.norm_place = family.norm_place;
  out.norm_form = family.norm_form;
  out.norm_offset = family.norm_offset;
  out.norm_bias = family.dialect == Dialect::starcoder2;
  out.sinks = family.sinks;
  out.gated_output = family.gated_output;
  const std::string layers_key = chatglm ? "num_layers" : "num_hidden_layers";
  out.n_layers = config.integer(layers_key, 1, kMaxLayers);
  out.hidden = config.integer("hidden_size", 1, kMaxWidth);
  out.n_heads = config.integer("num_attention_heads", 1, kMaxHeads);
  out.tied = config.flag("tie_word_embeddings", false);
  out.torch_dtype = config.text("dtype", config.text("torch_dtype", ""));
  out.activation = parse_activation(config);
  out.layer_is_moe.assign(size_t(out.n_layers), false);
  out.layer_attention.assign(size_t(out.n_layers), {});
  if (chatglm) {
    parse_chatglm(config, out);
    check_head_dim(config, "kv_channels", out.head_dim);
  } else {
    out.vocab = config.integer("vocab_size", 1, kMaxWidth);
    out.max_position = config.integer("max_position_embeddings", 1, kMaxPositions);
    const std::string eps_key = family.norm_form == NormForm::rms       ? "rms_norm_eps"
                                : family.dialect == Dialect::starcoder2 ? "norm_epsilon"
                                                                        : "layer_norm_eps";
    out.rms_eps = config.positive_or(eps_key, 1e-6);
    parse_biases(config, family, out);
    if (family.dialect == Dialect::deepseek) {
      parse_latent(config, out);
    } else {
      parse_common(config, family, out);
    }
    parse_experts(config, family, out);
    // Where every layer has experts, some configs do not give the width of a dense one.
    const bool any_dense =
        std::find(out.layer_is_moe.begin(), out.layer_is_moe.end(), false) != out.layer_is_moe.end();
    if (any_dense || config.has("intermediate_size"))
      out.intermediate = config.integer("intermediate_size", 1, kMaxWidth);
  }
  if (out.n_heads % out.n_kv_heads != 0)
    config.fail(chatglm ? "multi_query_group_num" : "num_key_value_heads",
                fmt::format("{} does not divide num_attention_heads: {}", out.n_kv_heads, out.n_heads));
  return out;
}

}  // namespace

std::string embedding_name(const Config& config) {
  return config.dialect == Dialect::chatglm ? "transformer.embedding.word_embeddings.weight"
                                            : config.prefix + "embed_tokens.weight";
}

std::string head_name(const Config& config) {
  if (config.dialect == Dialect::chatglm) return "transformer.output_layer.weight";
  return config.prefix == "language_model.model." ? "language_model.lm_head.weight" : "lm_head.weight";
}

Config parse_config(const Json& json, const std::string& name) {
  const ConfigFields whole(json, name);
  const Json text = text_object(whole);
  const ConfigFields given = whole.with(text, whole.has("text_config") ? "text_config" : "");
  const Family& family = find_family(given);
  Json filled = text;
  const Json defaults = Json::parse(family.defaults);
  for (const auto& [key, value] : defaults.items()) {
    if (!filled.contains(key)) filled[key] = value;
  }
  const ConfigFields config = given.with(filled, whole.has("text_config") ? "text_config" : "");
  refuse_unsupported(config);
  return parse_decoder(config, family);
}

int Config::sliding_window() const {
  int out = 0;
  for (const LayerAttention& layer : layer_attention)
    if (layer.window > 0 && (out == 0 || layer.window < out)) out = layer.window;
  return out;
}

std::vector<int> Config::kv_layers() const {
  std::vector<int> out;
  for (int l = 0; l < n_layers; ++l)
    if (!layer_attention[size_t(l)].delta) out.push_back(l);
  return out;
}

std::string Config::peculiarities() const {
  int windowed = 0, still = 0, delta = 0;
  for (const LayerAttention& layer : layer_attention) {
    windowed += layer.window > 0;
    still += layer.rotation == LayerAttention::Rotation::none && !layer.delta;
    delta += layer.delta;
  }
  std::string out;
  const auto say = [&](const std::string& what) { out += (out.empty() ? "" : ", ") + what; };
  if (windowed)
    say(fmt::format("sliding windows of {} tokens on {} of {} layers", sliding_window(), windowed, n_layers));
  if (still) say(fmt::format("no RoPE on {} of {} layers", still, n_layers));
  if (local_rope) say("frequencies of their own on sliding layers");
  if (sinks) say("learned sinks");
  if (attention_softcap > 0) say(fmt::format("logits capped at {:g}", attention_softcap));
  if (gated_output) say("gated attention output");
  if (delta) say(fmt::format("gated delta nets in place of attention on {} of {} layers", delta, n_layers));
  return out;
}

}  // namespace blockgtq
