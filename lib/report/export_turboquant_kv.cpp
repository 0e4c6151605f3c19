// turboquant-kv: turboquant_kv.json of a fork of vLLM whose TurboQuant cache has two groups of channels per
// KV head, one with a bit more than the other. The reader: mitkox/vllm-turboquant c6b2ee90,
//   vllm/v1/attention/ops/turboquant_metadata.py, version 1; group bits: turboquant_kv_cache.py
// Channels are coordinates of a head in the order of the Hugging Face weights, whose rows a GGUF file of a
// Llama-like model permutes: the map holds RoPE blocks, and both coordinates of a block get into one group.
// The fork wants indices of values too: there the coordinates with the largest mean squares, or its own
// default, the first ones, where the map has no basis of values.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/json.h"
#include "report/engine_formats.h"

namespace blockgtq {
namespace {

constexpr int kVersion = 1, kAlignment = 16;

struct Recipe {
  const char* name;
  double high_share;
  int high_bits, low_bits;
};
constexpr Recipe kRecipes[] = {{"turboquant25", 0.25, 3, 2}, {"turboquant35", 0.5, 4, 3}};

const Recipe* find_recipe(const std::string& name) {
  for (const Recipe& recipe : kRecipes)
    if (recipe.name == name) return &recipe;
  return nullptr;
}

/// Channels of the high group; 0 where the fork refuses the head. Python rounds halves to even, as nearbyint
/// does.
int high_channels(const Recipe& recipe, int head_dim) {
  if (head_dim % kAlignment != 0) return 0;
  const int n = int(std::nearbyint(head_dim * recipe.high_share / kAlignment)) * kAlignment;
  return n < head_dim ? n : 0;
}

/// The n indices with the largest values, ascending; of equal ones the first.
std::vector<int> largest(const std::vector<double>& values, int n) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return values[a] > values[b]; });
  order.resize(size_t(n));
  std::sort(order.begin(), order.end());
  return order;
}

std::vector<int> key_channels(const BitMap& map, const Budget& budget, int layer, int head, int n) {
  // By the map's bits, blocks of one width by energy.
  const auto bits = map.head_bits(budget, layer, head);
  const auto energy = map.head_energy(layer, head);
  std::vector<int> blocks(bits.size());
  std::iota(blocks.begin(), blocks.end(), 0);
  std::stable_sort(blocks.begin(), blocks.end(), [&](int a, int b) {
    return bits[a] != bits[b] ? bits[a] > bits[b] : energy[a] > energy[b];
  });
  std::vector<int> channels;
  for (int i = 0; i < n / 2; ++i)
    for (const int c : map.shape.layout.coords(blocks[size_t(i)])) channels.push_back(c);
  std::sort(channels.begin(), channels.end());
  return channels;
}

/// E v_j^2 of every coordinate; zeros where the map does not know.
std::vector<double> value_energy(const BitMap& map, int layer, int head) {
  std::vector<double> energy(size_t(map.shape.v_dim));
  if (map.calibration.empty()) return energy;
  const HeadCalibration& c = map.calibration[size_t(layer) * map.shape.n_kv_heads + head];
  if (c.v_spectrum.empty()) return energy;
  const size_t d = energy.size();
  for (size_t j = 0; j < d; ++j) {
    energy[j] = c.v_mean[j] * c.v_mean[j];
    for (size_t i = 0; i < d; ++i)
      energy[j] += c.v_spectrum[i] * c.v_backward[j * d + i] * c.v_backward[j * d + i];
  }
  return energy;
}

std::vector<std::vector<int>> read_heads(const Json& layer, const char* field, int n_heads, int n, int dim,
                                         const std::string& where) {
  const auto heads = layer.at(field).get<std::vector<std::vector<int>>>();
  if (heads.size() != size_t(n_heads))
    fail_input("{}: {}: {} KV heads found, {} wanted", where, field, heads.size(), n_heads);
  for (const std::vector<int>& indices : heads) {
    if (indices.size() != size_t(n))
      fail_input("{}: {}: {} channels found, {} wanted", where, field, indices.size(), n);
    for (size_t i = 0; i < indices.size(); ++i)
      if (indices[i] < 0 || indices[i] >= dim || (i > 0 && indices[i] <= indices[i - 1]))
        fail_input("{}: {}: channel {}: ascending ones from 0 to {} wanted", where, field, indices[i],
                   dim - 1);
  }
  return heads;
}

}  // namespace

EngineExport write_turboquant_kv(const BitMap& map, const Budget& budget, const EngineOptions& options) {
  const AttentionShape& s = map.shape;
  const std::string name = !options.type.empty()     ? options.type
                           : budget.average_bits < 3 ? "turboquant25"
                                                     : "turboquant35";
  const Recipe* recipe = find_recipe(name);
  if (!recipe)
    throw Error(Exit::usage, fmt::format("--engine-type: '{}' is none of turboquant25, turboquant35", name));
  const int dim = s.layout.head_dim, n = high_channels(*recipe, dim);
  if (n == 0) fail_input("map: head dimension {}: {} has no groups of channels for it", dim, name);
  if (s.v_dim != dim)
    fail_input("map: values of {} coordinates: {} wants those of keys, {}", s.v_dim, name, dim);
  if (s.rope(0).inv_freq.size() * 2 != size_t(s.layout.rotary_dim))
    fail_input("map: of --compat reference: its blocks are not those that the model rotates");

  Json json = {{"version", kVersion},
               {"recipe", name},
               {"head_size", dim},
               {"model_name", nullptr},
               {"transform_version", "structured_hadamard_v1"},
               {"codebook_version", "lloyd_beta_v1"},
               {"layers", Json::object()}};
  EngineExport out;
  for (int l = 0; l < s.n_layers; ++l) {
    Json keys = Json::array(), values = Json::array();
    for (int h = 0; h < s.n_kv_heads; ++h) {
      const std::vector<int> high = key_channels(map, budget, l, h, n);
      for (int b = 0; b < map.n_blocks(); ++b)
        out.bits.push_back(uint8_t(std::binary_search(high.begin(), high.end(), s.layout.coords(b)[0])
                                       ? recipe->high_bits
                                       : recipe->low_bits));
      keys.push_back(high);
      values.push_back(largest(value_energy(map, l, h), n));
    }
    json["layers"][s.modules.at(size_t(l))] = {{"key_high_precision_indices", std::move(keys)},
                                               {"value_high_precision_indices", std::move(values)}};
  }
  out.bytes = dump_json(json);
  return out;
}

std::vector<uint8_t> read_turboquant_kv(const std::string& bytes, const BitMap& map, const Budget&,
                                        const std::string& file) {
  const AttentionShape& s = map.shape;
  const Json json = parse_json(bytes, file);
  std::vector<uint8_t> bits;
  try {
    if (json.at("version") != kVersion)
      fail_input("{}: version: {} found, {} wanted", file, json.at("version").dump(), kVersion);
    const Recipe* recipe = find_recipe(json.at("recipe"));
    if (!recipe) fail_input("{}: recipe: {} is not known", file, json.at("recipe").dump());
    if (json.at("head_size") != s.layout.head_dim)
      fail_input("{}: head_size: {} found, {} wanted", file, json.at("head_size").dump(), s.layout.head_dim);
    const int n = high_channels(*recipe, s.layout.head_dim);
    for (int l = 0; l < s.n_layers; ++l) {
      // The engine looks for MODULE.attn, then for MODULE.
      const std::string& module = s.modules.at(size_t(l));
      const Json& layers = json.at("layers");
      const auto with_suffix = layers.find(module + ".attn");
      const Json& layer = with_suffix != layers.end() ? *with_suffix : layers.at(module);
      const auto keys = read_heads(layer, "key_high_precision_indices", s.n_kv_heads, n, s.layout.head_dim,
                                   file + ": " + module);
      read_heads(layer, "value_high_precision_indices", s.n_kv_heads, n, s.layout.head_dim,
                 file + ": " + module);
      for (const std::vector<int>& high : keys)
        for (int b = 0; b < map.n_blocks(); ++b) {
          const auto [c0, c1] = s.layout.coords(b);
          const bool both = std::binary_search(high.begin(), high.end(), c0) &&
                            std::binary_search(high.begin(), high.end(), c1);
          bits.push_back(uint8_t(both ? recipe->high_bits : recipe->low_bits));
        }
    }
  } catch (const nlohmann::json::exception& e) {
    fail_input("{}: not a turboquant_kv.json: {}", file, e.what());
  }
  return bits;
}

}  // namespace blockgtq
