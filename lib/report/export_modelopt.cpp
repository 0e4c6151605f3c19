// modelopt: hf_quant_config.json of NVIDIA's Model Optimizer with a format of the cache per attention module
// (kv_cache_quantized_layers, kv_cache_schema_version 1). Written and read by NVIDIA/Model-Optimizer, pull
// requests 2211 and 2272:
//   modelopt/torch/export/quant_utils.py (get_quant_config), modelopt/torch/export/convert_hf_config.py
//   (convert_hf_quant_config_format, which makes quantization_config of config.json from it)
// A module that is not in the list stays in 16 bits. FP8_K_NVFP4_V gives keys 8 bits and values 4; keys and
// values of such a layer must be equally wide. The weights are not quantized.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "report/engine_formats.h"
#include "report/engine_layers.h"

namespace blockgtq {
namespace {

constexpr int kVersion = 1;

/// Bits of a key.
const std::vector<NamedWidth>& types() {
  static const std::vector<NamedWidth> all = {{"NVFP4", 4}, {"FP8", 8}, {"FP8_K_NVFP4_V", 8}};
  return all;
}

void require_equal_widths(const BitMap& map, const std::string& type) {
  if (type == "FP8_K_NVFP4_V" && map.shape.v_dim != map.shape.layout.head_dim)
    throw Error(Exit::usage, fmt::format("--engine-type: FP8_K_NVFP4_V: keys have {} coordinates, values {}",
                                         map.shape.layout.head_dim, map.shape.v_dim));
}

}  // namespace

EngineExport write_modelopt(const BitMap& map, const Budget& budget, const EngineOptions& options) {
  const bool equal = map.shape.v_dim == map.shape.layout.head_dim;
  const auto [base, guarded] = two_types(options.type, types(), budget.average_bits <= 4 ? "NVFP4" : "FP8",
                                         equal ? "FP8_K_NVFP4_V" : "FP8");
  require_equal_widths(map, base);
  require_equal_widths(map, guarded);
  std::vector<std::string> of_layer(size_t(map.shape.n_layers), base);
  if (width_of(types(), guarded) > width_of(types(), base))
    for (const int l : largest_layers(map, options.layers)) of_layer[size_t(l)] = guarded;

  Json layers = Json::object();
  std::vector<uint8_t> widths;
  for (size_t l = 0; l < of_layer.size(); ++l) {
    layers[map.shape.modules.at(l)] = {{"quant_algo", of_layer[l]}};
    widths.push_back(uint8_t(width_of(types(), of_layer[l])));
  }
  const bool one = std::set<std::string>(of_layer.begin(), of_layer.end()).size() == 1;
  const Json json = {{"producer", {{"name", "blockgtq"}, {"version", options.version}}},
                     {"quantization",
                      {{"quant_algo", nullptr},
                       {"kv_cache_quant_algo", one ? of_layer[0] : "MIXED_PRECISION"},
                       {"quantized_layers", Json::object()},
                       {"kv_cache_quantized_layers", layers},
                       {"kv_cache_schema_version", kVersion}}}};
  return {dump_json(json), bits_of_layers(map, widths)};
}

std::vector<uint8_t> read_modelopt(const std::string& bytes, const BitMap& map, const Budget&,
                                   const std::string& file) {
  const Json json = parse_json(bytes, file);
  std::vector<uint8_t> widths(size_t(map.shape.n_layers), kUnquantized);
  try {
    const Json& quantization = json.at("quantization");
    if (quantization.at("kv_cache_schema_version") != kVersion)
      fail_input("{}: kv_cache_schema_version: {} found, {} wanted", file,
                 quantization.at("kv_cache_schema_version").dump(), kVersion);
    std::set<std::string> used;
    for (const auto& [module, entry] : quantization.at("kv_cache_quantized_layers").items()) {
      const auto at = std::find(map.shape.modules.begin(), map.shape.modules.end(), module);
      if (at == map.shape.modules.end()) fail_input("{}: {}: no module of the map", file, module);
      const std::string type = entry.at("quant_algo");
      const int bits = width_of(types(), type);
      if (bits == 0)
        fail_input("{}: {}: quant_algo: {} found, NVFP4, FP8 or FP8_K_NVFP4_V wanted", file, module, type);
      widths[size_t(at - map.shape.modules.begin())] = uint8_t(bits);
      used.insert(type);
    }
    const bool one = used.size() == 1 && std::count(widths.begin(), widths.end(), kUnquantized) == 0;
    const std::string all = quantization.at("kv_cache_quant_algo");
    if (all != (one ? *used.begin() : "MIXED_PRECISION"))
      fail_input("{}: kv_cache_quant_algo: {} does not fit the layers", file, all);
  } catch (const nlohmann::json::exception& e) {
    fail_input("{}: not a configuration of modelopt: {}", file, e.what());
  }
  return bits_of_layers(map, widths);
}

}  // namespace blockgtq
