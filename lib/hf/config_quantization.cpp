// quantization_config as transformers 5.24 and compressed-tensors write it. It does not decide which weights
// are
// quantized (modules_to_not_convert, ignore, targets): the dtypes of the tensors do.
#include "hf/config_quantization.h"

#include <nlohmann/json.hpp>

namespace blockgtq {

namespace {

constexpr const char* kKey = "quantization_config";
constexpr const char* kMethods = "fp8, compressed-tensors (float-quantized), mxfp4";

[[noreturn]] void refuse(const ConfigFields& fields, const std::string& key, const std::string& what) {
  throw Error(Exit::input, fields.message(key, what), kUnquantizedHint);
}

/// Exit::input unless a setting has its one supported value.
void require_text(const ConfigFields& fields, const std::string& key, const std::string& fallback,
                  const std::string& only) {
  const std::string found = fields.text(key, fallback);
  if (found != only) refuse(fields, key, fmt::format("{} is not supported: {}", shown(found), only));
}

void leave_activations(const ConfigFields& config, std::vector<std::string>& remarks, bool cache) {
  remarks.push_back(config.message(
      kKey,
      fmt::format("activations {}are left as they are: the forward pass here keeps them in full precision",
                  cache ? "and cache " : "")));
}

void parse_block(const ConfigFields& fields, const std::string& key, QuantizedConfig& out) {
  const Json& value = *fields.find(key);
  if (!value.is_array() || value.size() != 2)
    fields.fail(key, fmt::format("expected two integers, found {}", shown(value)));
  for (const Json& n : value) {
    if (!n.is_number_unsigned() || n.get<uint64_t>() < 1 || n.get<uint64_t>() > uint64_t(kMaxWidth))
      fields.fail(key, fmt::format("{} is out of range: 1 to {}", shown(n), kMaxWidth));
  }
  out.block_rows = value[0].get<int>();
  out.block_cols = value[1].get<int>();
}

/// DeepSeek-V3, Qwen3, MiniMax, GLM: blocks of 128 x 128 by default, a single scale where the size is null.
QuantizedConfig parse_fp8(const ConfigFields& fields) {
  QuantizedConfig out{WeightFormat::fp8, "_scale_inv", 128, 128};
  require_text(fields, "fmt", "e4m3", "e4m3");
  require_text(fields, "expert_dtype", "fp8", "fp8");
  if (fields.has("weight_block_size")) {
    parse_block(fields, "weight_block_size", out);
  } else if (fields.mentions("weight_block_size")) {
    out.block_rows = out.block_cols = 0;
  }
  return out;
}

/// How the scales of one group of layers are stored.
QuantizedConfig parse_weights(const ConfigFields& weights) {
  QuantizedConfig out{WeightFormat::fp8, "_scale", 0, 0};
  require_text(weights, "type", "int", "float");
  if (const int bits = weights.integer("num_bits", 1, 64); bits != 8)
    refuse(weights, "num_bits", fmt::format("{} is not supported: 8", bits));
  if (!weights.flag("symmetric", true)) refuse(weights, "symmetric", "false is not supported: true");
  const std::string strategy = weights.text("strategy", "tensor");
  if (strategy == "channel") {
    out.block_rows = 1;
  } else if (strategy == "block") {
    if (!weights.has("block_structure")) weights.fail("block_structure", "missing: two integers");
    parse_block(weights, "block_structure", out);
  } else if (strategy != "tensor") {
    refuse(weights, "strategy", fmt::format("{} is not supported: tensor, channel, block", shown(strategy)));
  }
  return out;
}

QuantizedConfig parse_compressed(const ConfigFields& fields, bool& activations) {
  constexpr const char* kFormat = "float-quantized";
  require_text(fields, "format", "dense", kFormat);
  const Json none = Json::object();
  if (const Json* sparse = fields.find("sparsity_config"); sparse && *sparse != none)
    require_text(fields.with(*sparse, "quantization_config.sparsity_config"), "format", "dense", "dense");
  if (const Json* transform = fields.find("transform_config"); transform && *transform != none)
    refuse(fields, "transform_config", "weights that are transformed are not supported: none");
  const Json* groups = fields.find("config_groups");
  if (!groups || !groups->is_object() || groups->empty())
    fields.fail("config_groups",
                fmt::format("expected an object of groups, found {}", groups ? shown(*groups) : "none"));
  std::optional<QuantizedConfig> out;
  for (const auto& [name, value] : groups->items()) {
    const std::string path = fmt::format("{}.config_groups.{}", kKey, name);
    const ConfigFields group = fields.with(value, path);
    require_text(group, "format", kFormat, kFormat);
    if (!group.has("weights")) group.fail("weights", "missing: how the weights are quantized");
    const QuantizedConfig found = parse_weights(group.with(*group.find("weights"), path + ".weights"));
    if (out && (out->block_rows != found.block_rows || out->block_cols != found.block_cols))
      refuse(fields, "config_groups", "groups whose weights have other scales are not supported: one kind");
    out = found;
    activations = activations || group.has("input_activations") || group.has("output_activations");
  }
  return *out;
}

}  // namespace

QuantizedConfig parse_quantization(const ConfigFields& config, std::vector<std::string>& remarks) {
  if (config.has("compression_config"))
    refuse(config, "compression_config", "is not supported: quantization_config");
  const Json* value = config.find(kKey);
  if (!value) return {};
  const ConfigFields fields = config.with(*value, kKey);
  std::string method = fields.text("quant_method", "");
  // As transformers: these take precedence over the method's name, which older folders leave out.
  for (const char* key : {"load_in_8bit", "load_in_4bit"})
    if (fields.flag(key, false)) method = "bitsandbytes";
  if (method.empty()) fields.fail("quant_method", fmt::format("missing: {}", kMethods));
  bool activations = method == "fp8";
  QuantizedConfig out;
  if (method == "fp8") {
    out = parse_fp8(fields);
  } else if (method == "compressed-tensors") {
    out = parse_compressed(fields, activations);
  } else if (method == "mxfp4") {
    out.format = WeightFormat::mxfp4;
  } else {
    refuse(fields, "quant_method", fmt::format("{} is not supported: {}", shown(method), kMethods));
  }
  const bool cache = fields.has("kv_cache_scheme");
  if (activations || cache) leave_activations(config, remarks, cache);
  return out;
}

}  // namespace blockgtq
