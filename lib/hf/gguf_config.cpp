// From a GGUF file's metadata to the fields of config.json. Sources: llama.cpp, src/llama-arch.cpp for the
// keys, src/llama-model.cpp for what is assumed where one is missing, convert_hf_to_gguf.py for the way
// there.
#include "hf/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "hf/config.h"
#include "hf/config_fields.h"

namespace blockgtq {

namespace {

constexpr const char* kRopeFactors = "rope_freqs.weight";

/// Keys behind "llama." that change what is computed and are not read here.
constexpr std::array<const char*, 12> kUnsupported = {"attention.scale",
                                                      "attention.clamp_kqv",
                                                      "attention.max_alibi_bias",
                                                      "attn_logit_softcapping",
                                                      "final_logit_softcapping",
                                                      "attention.temperature_scale",
                                                      "logit_scale",
                                                      "residual_scale",
                                                      "embedding_scale",
                                                      "rope.dimension_sections",
                                                      "attention.sliding_window_pattern",
                                                      "rope.scaling.yarn_log_multiplier"};

/// The metadata of one architecture: keys are given without "llama.".
class Keys {
 public:
  Keys(const GgufArchitecture& architecture, const GgufMetadata& metadata)
      : prefix_(std::string(architecture.name) + "."), metadata_(metadata) {}

  std::string full(const std::string& key) const { return prefix_ + key; }
  bool has(const std::string& key) const { return metadata_.has(full(key)); }
  int64_t integer(const std::string& key, int64_t low, int64_t high) const {
    return metadata_.integer(full(key), low, high);
  }
  int64_t integer_or(const std::string& key, int64_t fallback, int64_t low, int64_t high) const {
    return metadata_.integer_or(full(key), fallback, low, high);
  }
  std::optional<double> number(const std::string& key) const { return metadata_.number(full(key)); }
  double positive(const std::string& key) const {
    const std::optional<double> value = number(key);
    if (!value) fail(key, "missing: a number above 0");
    if (!(*value > 0)) fail(key, fmt::format("{} is out of range: above 0", *value));
    return *value;
  }
  bool flag(const std::string& key, bool fallback) const { return metadata_.flag(full(key), fallback); }
  std::string text(const std::string& key, const std::string& fallback) const {
    return metadata_.text(full(key), fallback);
  }
  [[noreturn]] void fail(const std::string& key, const std::string& what) const {
    metadata_.fail(full(key), what);
  }

 private:
  std::string prefix_;
  const GgufMetadata& metadata_;
};

void refuse_unsupported(const Keys& keys, const GgufMetadata& metadata) {
  if (const std::string type = metadata.text("general.type", "model"); type != "model")
    metadata.fail("general.type", fmt::format("{} is not a model", shown(type)));
  for (const char* key : kUnsupported) {
    if (keys.has(key)) keys.fail(key, "is not supported");
  }
  if (!keys.flag("attention.causal", true)) keys.fail("attention.causal", "false is not supported: true");
}

/// What Llama 3's scaling divides the frequency of block i of R / 2 by.
double llama3_factor(double theta, int rotary_dim, int i, double factor, double original) {
  constexpr double kLow = 1, kHigh = 4;  // what every Llama 3 has; the file does not tell
  const double wavelength = 2 * std::numbers::pi * std::pow(theta, 2.0 * i / rotary_dim);
  if (wavelength < original / kHigh) return 1;
  if (wavelength > original / kLow) return factor;
  const double smooth = (original / wavelength - kLow) / (kHigh - kLow);
  return 1 / ((1 - smooth) / factor + smooth);
}

/// rope_freqs.weight holds what each frequency is divided by, in float32. The numbers that Llama 3's rule
/// made them from are found again, so that the frequencies are the Hugging Face model's own.
Json llama3_scaling(const Tensor& tensor, double theta, int rotary_dim, const Keys& keys,
                    const GgufMetadata& metadata) {
  const int n = rotary_dim / 2;
  if (tensor.shape != std::vector<int64_t>{n} || tensor.dtype != DType::f32)
    metadata.fail(kRopeFactors, fmt::format("expected {} numbers of F32", n));
  std::vector<float> factors(static_cast<size_t>(n));
  tensor.read(0, n, factors.data());
  const double factor = *std::max_element(factors.begin(), factors.end());
  double original = 8192;
  for (int i = 0; i < n && factor > 1; ++i) {
    const double f = factors[size_t(i)];
    if (f <= 1.001 || f >= 0.999 * factor) continue;  // one between the two ends tells the length
    const double smooth = (1 / f - 1 / factor) / (1 - 1 / factor);
    original = std::round(2 * std::numbers::pi * std::pow(theta, 2.0 * i / rotary_dim) * (1 + 3 * smooth));
    break;
  }
  original =
      double(keys.integer_or("rope.scaling.original_context_length", int64_t(original), 1, kMaxPositions));
  for (int i = 0; i < n; ++i) {
    const double want = llama3_factor(theta, rotary_dim, i, factor, original), got = factors[size_t(i)];
    if (!(std::abs(got - want) <= 1e-4 * want))
      metadata.fail(kRopeFactors, fmt::format("number {} is {}, Llama 3's rule for a factor of {} says {}: "
                                              "other factors are not supported",
                                              i, got, factor, want));
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", int64_t(original)},
          {"rope_theta", theta}};
}

Json yarn_scaling(const Keys& keys, double theta) {
  for (const char* key :
       {"rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.attn_factor"}) {
    const double value = keys.number(key).value_or(1);
    if (value != 1) keys.fail(key, fmt::format("{} is not supported: 1", value));
  }
  Json out = {{"rope_type", "yarn"},
              {"factor", keys.positive("rope.scaling.factor")},
              {"rope_theta", theta},
              {"original_max_position_embeddings",
               keys.integer("rope.scaling.original_context_length", 1, kMaxPositions)}};
  for (const std::string beta : {"beta_fast", "beta_slow"}) {
    if (keys.has("rope.scaling.yarn_" + beta)) out[beta] = keys.positive("rope.scaling.yarn_" + beta);
  }
  return out;
}

Json rope_parameters(const Keys& keys, const GgufMetadata& metadata,
                     const std::map<std::string, Tensor>& tensors, int64_t head_dim) {
  constexpr double kDefaultTheta = 10000;  // Llama 2 was converted without one
  const double theta = keys.has("rope.freq_base") ? keys.positive("rope.freq_base") : kDefaultTheta;
  const int64_t rotary_dim = keys.integer_or("rope.dimension_count", head_dim, 1, kMaxHeadDim);
  if (rotary_dim != head_dim)
    keys.fail("rope.dimension_count",
              fmt::format("{} is not supported: {}, the whole head", rotary_dim, head_dim));
  const std::string type = keys.text("rope.scaling.type", "none");
  const auto factors = tensors.find(kRopeFactors);
  if (factors != tensors.end() && (type == "none" || type == "llama3"))
    return llama3_scaling(factors->second, theta, int(rotary_dim), keys, metadata);
  if (factors != tensors.end())
    metadata.fail(kRopeFactors, fmt::format("beside rope.scaling.type {} is not supported", shown(type)));
  if (type == "none") {
    const double scale = keys.number("rope.scale_linear").value_or(1);
    if (scale == 1) return {{"rope_type", "default"}, {"rope_theta", theta}};
    return {{"rope_type", "linear"}, {"factor", scale}, {"rope_theta", theta}};
  }
  if (type == "linear")
    return {{"rope_type", "linear"}, {"factor", keys.positive("rope.scaling.factor")}, {"rope_theta", theta}};
  if (type == "yarn") return yarn_scaling(keys, theta);
  keys.fail("rope.scaling.type", fmt::format("{} is not supported: none, linear, yarn", shown(type)));
}

/// The type that the products are of where a GPU may choose: quantized numbers keep all of theirs.
const char* torch_dtype(const std::map<std::string, Tensor>& tensors) {
  const auto it = tensors.find("blk.0.attn_output.weight");
  if (it == tensors.end()) return "float32";
  return it->second.dtype == DType::f16    ? "float16"
         : it->second.dtype == DType::bf16 ? "bfloat16"
                                           : "float32";
}

int64_t vocabulary(const Keys& keys, const GgufMetadata& metadata,
                   const std::map<std::string, Tensor>& tensors) {
  if (keys.has("vocab_size")) return keys.integer("vocab_size", 1, kMaxWidth);
  const auto embedding = tensors.find("token_embd.weight");
  if (embedding == tensors.end()) metadata.fail("token_embd.weight", "the tensor is missing");
  return embedding->second.shape[0];
}

void add_experts(const Keys& keys, const GgufMetadata& metadata, const std::string& model_type, Json& out) {
  const int64_t experts = keys.integer_or("expert_count", 0, 0, kMaxExperts);
  if (model_type != "qwen3_moe") {
    if (experts != 0)
      keys.fail("expert_count", fmt::format("{} is not supported for {}: 0", experts,
                                            metadata.text("general.architecture", "")));
    return;
  }
  if (keys.integer_or("expert_shared_count", 0, 0, kMaxExperts) != 0)
    keys.fail("expert_shared_count", "shared experts are not supported: 0");
  if (const double scale = keys.number("expert_weights_scale").value_or(1); scale != 1 && scale != 0)
    keys.fail("expert_weights_scale", fmt::format("{} is not supported: 1", scale));
  out["num_experts"] = experts;
  out["num_experts_per_tok"] = keys.integer("expert_used_count", 1, kMaxExperts);
  out["moe_intermediate_size"] = keys.integer("expert_feed_forward_length", 1, kMaxWidth);
  out["norm_topk_prob"] = keys.flag("expert_weights_norm", true);
  out["decoder_sparse_step"] = 1;
  out["mlp_only_layers"] = Json::array();
}

void add_window(const Keys& keys, Json& out) {
  const int64_t window = keys.integer_or("attention.sliding_window", 0, 0, kMaxPositions);
  if (window == 0) return;
  if (out["model_type"] != "llama")
    keys.fail("attention.sliding_window", fmt::format("{} is not supported: 0", window));
  out["model_type"] = "mistral";  // a llama whose layers all have a window
  out["architectures"] = {"MistralForCausalLM"};
  out["sliding_window"] = window;
}

}  // namespace

Json gguf_config(const GgufArchitecture& architecture, const GgufMetadata& metadata,
                 const std::map<std::string, Tensor>& tensors) {
  const Keys keys(architecture, metadata);
  refuse_unsupported(keys, metadata);
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
  out["rope_parameters"] = rope_parameters(keys, metadata, tensors, head_dim);
  out["hidden_act"] = "silu";
  out["tie_word_embeddings"] = tensors.count("output.weight") == 0;
  out["dtype"] = torch_dtype(tensors);
  if (std::string(architecture.model_type) != "qwen2")
    out["attention_bias"] = tensors.count("blk.0.attn_q.bias") > 0;
  if (std::string(architecture.model_type) == "llama")
    out["mlp_bias"] = tensors.count("blk.0.ffn_gate.bias") > 0;
  add_experts(keys, metadata, architecture.model_type, out);
  add_window(keys, out);
  for (const std::string token : {"bos", "eos"}) {
    const std::string key = "tokenizer.ggml." + token + "_token_id";
    if (metadata.has(key)) out[token + "_token_id"] = metadata.integer(key, 0, INT32_MAX);
  }
  return out;
}

}  // namespace blockgtq
