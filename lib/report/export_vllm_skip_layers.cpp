// vllm-skip-layers: what `vllm serve --config FILE.yaml` takes: one type for the cache, and the layers that
// stay in the model's own (kv_cache_dtype_skip_layers). The reader: vllm-project/vllm 0.33.0,
//   vllm/utils/argparse_utils.py (load_config_file), vllm/engine/arg_utils.py,
//   vllm/model_executor/layers/attention/attention.py: a layer is skipped where
//   str(extract_layer_index(prefix)) is in the list
//   vllm/model_executor/layers/quantization/turboquant/config.py: with a type turboquant_* the first two
//   layers and the last two are skipped as well (get_boundary_skip_layers), whatever the list says
// JSON is YAML, and is what stands in the file. Keys and values of a layer share its type.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "report/engine_formats.h"
#include "report/engine_layers.h"

namespace blockgtq {
namespace {

constexpr const char* kType = "kv-cache-dtype";
constexpr const char* kSkipped = "kv-cache-dtype-skip-layers";

/// Bits of a key.
const std::vector<NamedWidth>& types() {
  static const std::vector<NamedWidth> all = {{"fp8", 8},
                                              {"int8_per_token_head", 8},
                                              {"int4_per_token_head", 4},
                                              {"nvfp4", 4},
                                              {"turboquant_3bit_nc", 3},
                                              {"turboquant_k3v4_nc", 3},
                                              {"turboquant_4bit_nc", 4},
                                              {"turboquant_k8v4", 8}};
  return all;
}

/// The layers that vLLM skips by itself. Of a model that has layers of another kind than attention it skips
/// none.
std::vector<int> boundary(const BitMap& map, const std::string& type) {
  const std::vector<int> numbers = layer_numbers(map);
  const int n = map.shape.n_layers, each = std::min(2, n / 2);
  if (!type.starts_with("turboquant_") || numbers.back() != n - 1) return {};
  std::vector<int> layers;
  for (int l = 0; l < n; ++l)
    if (l < each || l >= n - each) layers.push_back(l);
  return layers;
}

std::vector<uint8_t> bits_of(const BitMap& map, const std::string& type, const std::vector<int>& skipped) {
  std::vector<uint8_t> widths(size_t(map.shape.n_layers), uint8_t(width_of(types(), type)));
  for (const int l : skipped) widths.at(size_t(l)) = kUnquantized;
  for (const int l : boundary(map, type)) widths[size_t(l)] = kUnquantized;
  return bits_of_layers(map, widths);
}

}  // namespace

EngineExport write_vllm_skip_layers(const BitMap& map, const Budget& budget, const EngineOptions& options) {
  const double average = budget.average_bits;
  const std::string base = average <= 3 ? "turboquant_3bit_nc" : average <= 4 ? "turboquant_4bit_nc" : "fp8";
  const auto [type, guarded] = two_types(options.type, types(), base, base);
  if (options.type.find(',') != std::string::npos)
    throw Error(Exit::usage, "--engine-type: one type wanted: skipped layers stay in the model's own");
  const std::vector<int> skipped = largest_layers(map, options.layers);
  Json json = {{kType, type}};
  for (const int l : skipped) json[kSkipped].push_back(std::to_string(layer_number(map, l)));
  return {dump_json(json), bits_of(map, type, skipped)};
}

std::vector<uint8_t> read_vllm_skip_layers(const std::string& bytes, const BitMap& map, const Budget&,
                                           const std::string& file) {
  const Json json = parse_json(bytes, file);
  const auto type = json.is_object() ? json.find(kType) : json.end();
  if (type == json.end() || !type->is_string() || width_of(types(), type->get<std::string>()) == 0)
    fail_input("{}: {}: a type of vLLM wanted", file, kType);
  for (const auto& [name, value] : json.items())
    if (name != kType && name != kSkipped)
      fail_input("{}: {}: {} and {} wanted", file, name, kType, kSkipped);
  const std::vector<int> numbers = layer_numbers(map);
  std::vector<int> skipped;
  if (json.contains(kSkipped))
    for (const Json& entry : json[kSkipped]) {
      int found = -1;
      for (size_t l = 0; l < numbers.size(); ++l)
        if (entry.is_string() && entry.get<std::string>() == std::to_string(numbers[l])) found = int(l);
      if (found < 0) fail_input("{}: {}: {} is no layer of the map", file, kSkipped, entry.dump());
      skipped.push_back(found);
    }
  return bits_of(map, type->get<std::string>(), skipped);
}

}  // namespace blockgtq
