#include "catch.h"
#include "config_samples.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

std::string with_quantization(const std::string& patch) {
  return patched(kLlama31, R"({"quantization_config": )" + patch + "}");
}

/// As llm-compressor writes it, with other members of the group's weights and beside the groups.
std::string compressed(const std::string& weights, const std::string& beside = "{}") {
  Json config = Json::parse(R"({
    "quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
    "kv_cache_scheme": null, "quantization_status": "compressed", "sparsity_config": {}, "transform_config": {},
    "config_groups": {"group_0": {
      "input_activations": {"dynamic": true, "num_bits": 8, "strategy": "token", "symmetric": true, "type": "float"},
      "output_activations": null, "targets": ["Linear"], "format": null,
      "weights": {"block_structure": null, "dynamic": false, "group_size": null, "num_bits": 8,
                  "observer": "minmax", "strategy": "channel", "symmetric": true, "type": "float"}}}})");
  config["config_groups"]["group_0"]["weights"].update(Json::parse(weights));
  config.update(Json::parse(beside));
  return with_quantization(config.dump());
}

Error thrown(const std::string& config) {
  try {
    parse(config);
  } catch (const Error& e) {
    return e;
  }
  return {Exit::ok, ""};
}

}  // namespace

TEST_CASE("config: quantized weights that are read", "[config][quantized]") {
  struct Case {
    std::string config;
    WeightFormat format;
    const char* ending;
    int block_rows, block_cols;
    size_t remarks;
  };
  const Case cases[] = {
      {kLlama31, WeightFormat::plain, "", 0, 0, 0},
      {with_quantization("null"), WeightFormat::plain, "", 0, 0, 0},
      {with_quantization(R"({"quant_method": "fp8"})"), WeightFormat::fp8, "_scale_inv", 128, 128, 1},
      {with_quantization(
           R"({"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "scale_fmt": "ue8m0",
               "weight_block_size": [64, 32], "modules_to_not_convert": ["lm_head"]})"),
       WeightFormat::fp8, "_scale_inv", 64, 32, 1},
      {with_quantization(
           R"({"quant_method": "fp8", "weight_block_size": null, "activation_scheme": "static"})"),
       WeightFormat::fp8, "_scale_inv", 0, 0, 1},
      {compressed("{}"), WeightFormat::fp8, "_scale", 1, 0, 1},
      {compressed(R"({"strategy": "tensor"})"), WeightFormat::fp8, "_scale", 0, 0, 1},
      {compressed(R"({"strategy": "block", "block_structure": [128, 64]})"), WeightFormat::fp8, "_scale", 128,
       64, 1},
      {compressed("{}", R"({"kv_cache_scheme": {"num_bits": 8}})"), WeightFormat::fp8, "_scale", 1, 0, 1},
      {with_quantization(R"({"quant_method": "mxfp4", "modules_to_not_convert": ["model.embed_tokens"]})"),
       WeightFormat::mxfp4, "", 0, 0, 0},
  };
  for (const Case& c : cases) {
    INFO(c.config);
    const Config config = parse(c.config);
    CHECK(config.quantized.format == c.format);
    CHECK(config.quantized.scale_ending == c.ending);
    CHECK(config.quantized.block_rows == c.block_rows);
    CHECK(config.quantized.block_cols == c.block_cols);
    REQUIRE(config.remarks.size() == c.remarks);
    if (c.remarks)
      CHECK_THAT(
          config.remarks[0],
          ContainsSubstring("config.json: quantization_config: activations ") &&
              ContainsSubstring("are left as they are: the forward pass here keeps them in full precision"));
  }
  CHECK_THAT(parse(compressed("{}", R"({"kv_cache_scheme": {"num_bits": 8}})")).remarks[0],
             ContainsSubstring("activations and cache are left"));
}

TEST_CASE("config: other quantized weights are refused by their name, with what to take",
          "[config][quantized]") {
  for (const char* method : {"awq",   "gptq",       "aqlm",     "quanto",   "quark",        "eetq", "higgs",
                             "hqq",   "fbgemm_fp8", "torchao",  "bitnet",   "vptq",         "spqr", "nvfp4",
                             "mxfp8", "auto-round", "modelopt", "fp_quant", "bitsandbytes", "int8"}) {
    const Error error =
        thrown(with_quantization(fmt::format(R"({{"quant_method": "{}", "bits": 4}})", method)));
    CHECK(error.code == Exit::input);
    CHECK(std::string(error.what()) ==
          fmt::format("config.json: quantization_config.quant_method: \"{}\" is not supported: fp8, "
                      "compressed-tensors (float-quantized), mxfp4",
                      method));
    CHECK(error.hint == "take the unquantized model, or a GGUF file of it");
  }
  struct Case {
    std::string config;
    const char* message;
    bool hint = true;
  };
  const std::string groups = "quantization_config.config_groups.group_0.";
  const Case cases[] = {
      {with_quantization(R"({"load_in_4bit": true})"), "quant_method: \"bitsandbytes\" is not supported"},
      {with_quantization(R"({"load_in_8bit": true, "quant_method": "fp8"})"), "\"bitsandbytes\" is not"},
      {with_quantization("{}"), "quantization_config.quant_method: missing: fp8", false},
      {with_quantization("[]"), "quantization_config: expected a JSON object, found []", false},
      {patched(kLlama31, R"({"compression_config": {}})"), "compression_config: is not supported"},
      {with_quantization(R"({"quant_method": "fp8", "fmt": "e5m2"})"),
       "fmt: \"e5m2\" is not supported: e4m3"},
      {with_quantization(R"({"quant_method": "fp8", "expert_dtype": "fp4"})"),
       "expert_dtype: \"fp4\" is not"},
      {with_quantization(R"({"quant_method": "fp8", "weight_block_size": 128})"),
       "weight_block_size: expected two integers, found 128", false},
      {with_quantization(R"({"quant_method": "fp8", "weight_block_size": [128]})"), "two integers", false},
      {with_quantization(R"({"quant_method": "fp8", "weight_block_size": [0, 128]})"),
       "weight_block_size: 0 is out of range: 1 to", false},
      {with_quantization(R"({"quant_method": "fp8", "weight_block_size": [128, 1e9]})"), "out of range",
       false},
      {compressed("{}", R"({"format": "pack-quantized"})"),
       "quantization_config.format: \"pack-quantized\" is not supported: float-quantized"},
      {compressed("{}", R"({"format": "int-quantized"})"), "\"int-quantized\" is not supported"},
      {compressed("{}", R"({"format": "nvfp4-pack-quantized"})"),
       "\"nvfp4-pack-quantized\" is not supported"},
      {compressed("{}", R"({"format": "mixed-precision"})"), "\"mixed-precision\" is not supported"},
      {compressed("{}", R"({"format": null})"), "\"dense\" is not supported"},
      {compressed("{}", R"({"sparsity_config": {"format": "sparse-24-bitmask"}})"),
       "sparsity_config.format: \"sparse-24-bitmask\" is not supported: dense"},
      {compressed("{}", R"({"transform_config": {"config_groups": {"u": 1}}})"),
       "transform_config: weights that"},
      {compressed("{}", R"({"config_groups": null})"), "expected an object of groups, found none", false},
      {compressed("{}", R"({"config_groups": {"FP8": ["Linear"]}})"), "config_groups.FP8: expected", false},
      {compressed("{}", R"({"config_groups": {"g": {"targets": []}}})"), "config_groups.g.weights: missing",
       false},
      {compressed(R"({"type": "int"})"), "weights.type: \"int\" is not supported: float"},
      {compressed(R"({"num_bits": 4})"), "weights.num_bits: 4 is not supported: 8"},
      {compressed(R"({"symmetric": false})"), "weights.symmetric: false is not supported"},
      {compressed(R"({"strategy": "group"})"),
       "weights.strategy: \"group\" is not supported: tensor, channel"},
      {compressed(R"({"strategy": "block"})"), "weights.block_structure: missing: two integers", false},
      {compressed("{}", R"({"config_groups": {
          "a": {"weights": {"type": "float", "num_bits": 8, "strategy": "channel"}},
          "b": {"weights": {"type": "float", "num_bits": 8, "strategy": "tensor"}}}})"),
       "config_groups: groups whose weights have other scales"},
  };
  for (const Case& c : cases) {
    INFO(c.config);
    const Error error = thrown(c.config);
    CHECK(error.code == Exit::input);
    CHECK_THAT(error.what(), ContainsSubstring(c.message));
    CHECK(error.hint.empty() != c.hint);
  }
}
