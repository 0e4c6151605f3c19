// Converts a GGUF file's metadata and frequency factors to config.json's rope_parameters. Sources: llama.cpp,
// src/llama-model.cpp (load_hparams) for keys and defaults, conversion/*.py of each architecture for the
// opposite
// direction.
#include "hf/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "hf/config.h"
#include "hf/config_fields.h"

namespace blockgtq {

namespace {

constexpr const char* kRopeFactors = "rope_freqs.weight";
constexpr const char* kShortFactors = "rope_factors_short.weight";
constexpr const char* kLongFactors = "rope_factors_long.weight";
constexpr double kDefaultTheta = 10000;  // Llama 2 and Gemma 2 were converted without one

std::vector<float> read_factors(const Tensor& tensor, int n, const GgufKeys& keys) {
  if (tensor.shape != std::vector<int64_t>{n} || tensor.dtype != DType::f32)
    keys.metadata().fail(tensor.name, fmt::format("expected {} numbers of F32", n));
  std::vector<float> out(static_cast<size_t>(n));
  tensor.read(0, n, out.data());
  return out;
}

/// The factor by which Llama 3's scaling divides the frequency of block i of R / 2.
double llama3_factor(double theta, int rotary_dim, int i, double factor, double original) {
  constexpr double kLow = 1, kHigh = 4;  // the same in every Llama 3; the file does not say
  const double wavelength = 2 * std::numbers::pi * std::pow(theta, 2.0 * i / rotary_dim);
  if (wavelength < original / kHigh) return 1;
  if (wavelength > original / kLow) return factor;
  const double smooth = (original / wavelength - kLow) / (kHigh - kLow);
  return 1 / ((1 - smooth) / factor + smooth);
}

/// rope_freqs.weight holds, in float32, the divisor of each frequency. This recovers the parameters of Llama
/// 3's rule from them, so that the frequencies are exactly those of the Hugging Face model.
Json llama3_scaling(const Tensor& tensor, double theta, int rotary_dim, const GgufKeys& keys) {
  const int n = rotary_dim / 2;
  const std::vector<float> factors = read_factors(tensor, n, keys);
  const double factor = *std::max_element(factors.begin(), factors.end());
  double original = 8192;
  for (int i = 0; i < n && factor > 1; ++i) {
    const double f = factors[size_t(i)];
    if (f <= 1.001 || f >= 0.999 * factor) continue;  // a divisor between the two ends determines the length
    const double smooth = (1 / f - 1 / factor) / (1 - 1 / factor);
    original = std::round(2 * std::numbers::pi * std::pow(theta, 2.0 * i / rotary_dim) * (1 + 3 * smooth));
    break;
  }
  original =
      double(keys.integer_or("rope.scaling.original_context_length", int64_t(original), 1, kMaxPositions));
  for (int i = 0; i < n; ++i) {
    const double want = llama3_factor(theta, rotary_dim, i, factor, original), got = factors[size_t(i)];
    if (!(std::abs(got - want) <= 1e-4 * want))
      keys.metadata().fail(kRopeFactors,
                           fmt::format("number {} is {}, Llama 3's rule for a factor of {} says {}: "
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

Json yarn_scaling(const GgufKeys& keys, double theta) {
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

/// Phi-3's two lists, which conversion/phi.py writes next to the factor of cos and sin.
Json longrope(const GgufKeys& keys, const std::map<std::string, Tensor>& tensors, double theta,
              int64_t rotary_dim) {
  Json out = {{"rope_type", "longrope"}, {"rope_theta", theta}};
  for (const auto& [name, key] :
       {std::pair{kShortFactors, "short_factor"}, std::pair{kLongFactors, "long_factor"}}) {
    const auto it = tensors.find(name);
    if (it == tensors.end()) keys.metadata().fail(name, "the tensor is missing beside the other factors");
    out[key] = Json::array();
    for (const float factor : read_factors(it->second, int(rotary_dim / 2), keys))
      out[key].push_back(shortest_decimal(factor));
  }
  const int64_t original = keys.integer("rope.scaling.original_context_length", 2, kMaxPositions),
                context = keys.integer("context_length", 1, kMaxPositions);
  out["original_max_position_embeddings"] = original;
  // The file has the rule's value in float32. A factor is taken as it is only where it differs from that.
  const double scale = double(context) / double(original),
               rule = scale > 1 ? std::sqrt(1 + std::log(scale) / std::log(double(original))) : 1,
               factor = keys.has("rope.scaling.attn_factor") ? keys.positive("rope.scaling.attn_factor") : 1;
  if (std::abs(factor - rule) > 1e-6 * rule) out["attention_factor"] = factor;
  return out;
}

Json scaling(const GgufArchitecture& architecture, const GgufKeys& keys,
             const std::map<std::string, Tensor>& tensors, double theta, int64_t rotary_dim) {
  const std::string type = keys.text("rope.scaling.type", "none"), model_type = architecture.model_type;
  const auto factors = tensors.find(kRopeFactors);
  if (factors != tensors.end() && (type == "none" || type == "llama3"))
    return llama3_scaling(factors->second, theta, int(rotary_dim), keys);
  if (factors != tensors.end())
    keys.metadata().fail(kRopeFactors,
                         fmt::format("beside rope.scaling.type {} is not supported", shown(type)));
  const bool listed = tensors.count(kShortFactors) + tensors.count(kLongFactors) > 0;
  if (listed && model_type != "phi3")
    keys.metadata().fail(tensors.count(kShortFactors) ? kShortFactors : kLongFactors,
                         fmt::format("is not supported for {}", architecture.name));
  if (listed && (type == "none" || type == "longrope")) return longrope(keys, tensors, theta, rotary_dim);
  if (!keys.has("rope.scaling.type") && keys.number("rope.scaling.factor").value_or(1) != 1)
    keys.fail("rope.scaling.type", "missing beside rope.scaling.factor");
  if (type == "none") {
    const double scale = keys.number("rope.scale_linear").value_or(1);
    if (scale == 1) return {{"rope_type", "default"}, {"rope_theta", theta}};
    return {{"rope_type", "linear"}, {"factor", scale}, {"rope_theta", theta}};
  }
  if (type == "linear")
    return {{"rope_type", "linear"}, {"factor", keys.positive("rope.scaling.factor")}, {"rope_theta", theta}};
  if (type == "yarn") {
    Json out = yarn_scaling(keys, theta);
    // The file does not say. This is the value of transformers' gpt_oss, configuration_gpt_oss.py.
    if (model_type == "gpt_oss") out["truncate"] = false;
    return out;
  }
  keys.fail("rope.scaling.type", fmt::format("{} is not supported: none, linear, yarn", shown(type)));
}

}  // namespace

bool is_rope_tensor(const std::string& gguf_name) {
  return gguf_name == kRopeFactors || gguf_name == kShortFactors || gguf_name == kLongFactors;
}

Json gguf_rope_parameters(const GgufArchitecture& architecture, const GgufKeys& keys,
                          const std::map<std::string, Tensor>& tensors, int64_t head_dim) {
  const std::string model_type = architecture.model_type;
  // The converters of these models always write it. A file without it comes from elsewhere, with other keys.
  const bool required = model_type == "gemma3_text" || model_type == "gpt_oss" || model_type == "phi3";
  const double theta =
      required || keys.has("rope.freq_base") ? keys.positive("rope.freq_base") : kDefaultTheta;
  const int64_t rotary_dim = keys.integer_or("rope.dimension_count", head_dim, 1, kMaxHeadDim);
  const bool partial = rotary_dim < head_dim && rotary_dim % 2 == 0 && model_type == "phi3";
  if (rotary_dim != head_dim && !partial)
    keys.fail("rope.dimension_count",
              fmt::format("{} is not supported: {}, the whole head", rotary_dim, head_dim));
  Json out = scaling(architecture, keys, tensors, theta, rotary_dim);
  // The config's rule rounds the product down.
  if (partial) out["partial_rotary_factor"] = (double(rotary_dim) + 0.25) / double(head_dim);
  const bool local = model_type == "gemma3_text";
  // src/models/gemma3.cpp: sliding layers have their own base and no scaling.
  const double local_theta = keys.has("rope.freq_base_swa") ? keys.positive("rope.freq_base_swa")
                             : local                        ? kDefaultTheta
                                                            : theta;
  if (local)
    return {{"full_attention", out},
            {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", local_theta}}}};
  if (local_theta != theta)
    keys.fail("rope.freq_base_swa",
              fmt::format("{} is not supported: {}, the freq_base", local_theta, theta));
  return out;
}

}  // namespace blockgtq
