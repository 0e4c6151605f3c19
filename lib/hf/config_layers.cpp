// What differs from layer to layer: sliding windows, layers without RoPE, frequencies of their own, delta
// nets.
// Source of the rules: transformers, configuration_*.py of each family.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "hf/config_dialects.h"
#include "hf/config_rope.h"

namespace blockgtq {

namespace {

using Rotation = LayerAttention::Rotation;

enum class LayerType { full, sliding, linear };

/// layer_types as the config lists them; empty where it lists none.
std::vector<LayerType> listed_types(const ConfigFields& config, const Family& family, int n_layers) {
  const Json* types = config.find("layer_types");
  if (!types) return {};
  if (!types->is_array() || types->size() != size_t(n_layers))
    config.fail("layer_types",
                fmt::format("{} is not a list of num_hidden_layers: {} words", shown(*types), n_layers));
  std::vector<LayerType> out;
  for (const Json& type : *types) {
    const bool linear = type == "linear_attention" && family.delta_layers;
    const bool sliding = type == "sliding_attention" && family.windows != Windows::none;
    if (!linear && !sliding && type != "full_attention")
      config.fail("layer_types",
                  fmt::format("{} is not supported for {}: full_attention{}{}", shown(type),
                              family.model_type, family.windows != Windows::none ? ", sliding_attention" : "",
                              family.delta_layers ? ", linear_attention" : ""));
    out.push_back(linear ? LayerType::linear : sliding ? LayerType::sliding : LayerType::full);
  }
  return out;
}

/// The types of a family's layers where the config has no layer_types.
std::vector<LayerType> usual_types(const ConfigFields& config, const Family& family, const Config& out) {
  std::vector<LayerType> types(size_t(out.n_layers), LayerType::full);
  const auto where = [&](LayerType type, const auto& holds) {
    for (int l = 0; l < out.n_layers; ++l)
      if (holds(l)) types[size_t(l)] = type;
  };
  if (family.delta_layers) {
    const int interval = config.integer_or("full_attention_interval", 4, 1, kMaxLayers);
    where(LayerType::linear, [&](int l) { return (l + 1) % interval != 0; });
  }
  const bool window = config.has("sliding_window"),
             opted = config.flag("use_sliding_window", false) && window;
  const auto from = [&] { return config.integer("max_window_layers", 0, INT32_MAX); };
  switch (family.windows) {
    case Windows::none:
      break;
    case Windows::all:
      if (window) where(LayerType::sliding, [](int) { return true; });
      break;
    case Windows::late:
      if (opted) where(LayerType::sliding, [first = from()](int l) { return l >= first; });
      break;
    case Windows::all_opt_in:
      if (opted) where(LayerType::sliding, [](int) { return true; });
      break;
    case Windows::even:
      if (opted) where(LayerType::sliding, [end = from()](int l) { return l % 2 == 0 && l < end; });
      break;
    case Windows::pattern:
      if (window)
        where(LayerType::sliding, [n = config.integer("sliding_window_pattern", 1, kMaxLayers)](int l) {
          return (l + 1) % n != 0;
        });
      break;
    case Windows::unrotated:
      if (opted)
        where(LayerType::sliding,
              [&](int l) { return out.layer_attention[size_t(l)].rotation == Rotation::none; });
      break;
  }
  return types;
}

/// Reads no_rope_layers, which has a 0 for every layer without RoPE.
void parse_listed_rotations(const ConfigFields& config, Config& out) {
  const Json* listed = config.find("no_rope_layers");
  if (listed && (!listed->is_array() || listed->size() < size_t(out.n_layers)))
    config.fail("no_rope_layers", fmt::format("{} is not a list of num_hidden_layers: {} numbers",
                                              shown(*listed), out.n_layers));
  const int interval = config.integer_or("no_rope_layer_interval", 4, 1, INT32_MAX);
  for (int l = 0; l < out.n_layers; ++l) {
    bool rotates = (l + 1) % interval != 0;
    if (listed) {
      const Json& one = (*listed)[size_t(l)];
      if (one != 0 && one != 1)
        config.fail("no_rope_layers", fmt::format("{} is not supported: 0, 1", shown(one)));
      rotates = one == 1;
    }
    if (!rotates) out.layer_attention[size_t(l)].rotation = Rotation::none;
  }
}

/// The config with one set of RoPE parameters, where it has one per layer type.
Json with_rope_of(const ConfigFields& config, const char* layer_type, bool local) {
  Json out = config.object();
  const Json* nested = config.find("rope_parameters");
  if (nested && nested->is_object() && nested->contains(layer_type)) {
    out["rope_parameters"] = (*nested)[layer_type];
    const Json& own = out["rope_parameters"];
    if (own.is_object() && own.contains("rope_theta"))
      out.erase("rope_theta");  // the one outside is for layer types without their own
    out.erase("rope_scaling");
    return out;
  }
  if (!local) return out;
  out.erase("rope_scaling");  // it is for the full layers
  out.erase("rope_parameters");
  if (const Json* theta = config.find("rope_local_base_freq")) out["rope_theta"] = *theta;
  return out;
}

void parse_ropes(const ConfigFields& config, const Family& family, Config& out) {
  RopeDialect dialect{family.pairing,      out.head_dim, family.partial > 0 ? family.partial : 1,
                      family.partial == 0, family.mrope, family.dialect == Dialect::phi3};
  if (const Json* rotary_dim = config.find("rotary_dim"); rotary_dim && family.partial > 0)  // minimax_m2
    dialect.partial = double(config.integer("rotary_dim", 2, out.head_dim)) / out.head_dim;
  if (!family.local_rope) {
    out.rope = parse_rope(config, dialect, out.max_position, out.remarks);
    return;
  }
  const Json main = with_rope_of(config, "full_attention", false),
             local = with_rope_of(config, "sliding_attention", true);
  out.rope = parse_rope(config.with(main, ""), dialect, out.max_position, out.remarks);
  out.local_rope = parse_rope(config.with(local, ""), dialect, out.max_position, out.remarks);
  if (out.local_rope->rotary_dim != out.rope.rotary_dim)
    config.fail("rope_parameters",
                fmt::format("{} of the sliding layers' coordinates rotate and {} of the others'",
                            out.local_rope->rotary_dim, out.rope.rotary_dim));
}

void parse_delta(const ConfigFields& config, Config& out) {
  DeltaConfig& delta = out.delta;
  delta.n_key_heads = config.integer_or("linear_num_key_heads", 16, 1, kMaxHeads);
  delta.n_value_heads = config.integer_or("linear_num_value_heads", 32, 1, kMaxHeads);
  delta.key_dim = config.integer_or("linear_key_head_dim", 128, 1, kMaxHeadDim);
  delta.value_dim = config.integer_or("linear_value_head_dim", 128, 1, kMaxHeadDim);
  delta.kernel = config.integer_or("linear_conv_kernel_dim", 4, 1, 64);
  delta.fused = out.model_type == "qwen3_next";
  if (delta.n_value_heads % delta.n_key_heads != 0)
    config.fail("linear_num_key_heads", fmt::format("{} does not divide linear_num_value_heads: {}",
                                                    delta.n_key_heads, delta.n_value_heads));
}

}  // namespace

void parse_layers(const ConfigFields& config, const Family& family, Config& out) {
  parse_ropes(config, family, out);
  if (family.no_rope == NoRope::listed) parse_listed_rotations(config, out);
  if (family.delta_layers) parse_delta(config, out);
  std::vector<LayerType> types = listed_types(config, family, out.n_layers);
  const bool listed = !types.empty();
  if (!listed) types = usual_types(config, family, out);
  const bool any_sliding = std::find(types.begin(), types.end(), LayerType::sliding) != types.end();
  if (any_sliding && !config.has("sliding_window"))
    config.fail("sliding_window", "missing: layer_types names sliding_attention");
  if (listed && family.windows == Windows::all) {
    // transformers uses the same window on every layer, whatever the list says.
    const bool same = std::adjacent_find(types.begin(), types.end(), std::not_equal_to<>()) == types.end();
    if (!same || any_sliding != config.has("sliding_window"))
      config.fail("layer_types",
                  fmt::format("unlike sliding_window, which is of every layer of {}", family.model_type));
  }
  const int window = any_sliding ? config.integer("sliding_window", 1, kMaxPositions) : 0;
  bool any_delta = false;
  for (int l = 0; l < out.n_layers; ++l) {
    LayerAttention& layer = out.layer_attention[size_t(l)];
    const bool sliding = types[size_t(l)] == LayerType::sliding;
    if (sliding) layer.window = window;
    layer.delta = types[size_t(l)] == LayerType::linear;
    any_delta = any_delta || layer.delta;
    if (sliding && out.local_rope) layer.rotation = Rotation::local;
    if (!sliding && family.no_rope == NoRope::full_layers && config.has("sliding_window"))
      layer.rotation = Rotation::none;
  }
  if (any_delta && out.kv_layers().empty())
    config.fail("layer_types", "no layer attends: at least one full_attention");
}

}  // namespace blockgtq
