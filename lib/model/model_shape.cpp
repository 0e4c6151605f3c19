#include "model/model_shape.h"

#include <cmath>

#include "model/weights.h"

namespace blockgtq {

namespace {

Rope rope_of(const RopeConfig& rope, const Config& config, int64_t longest_chunk) {
  const RopeFrequencies frequencies = rope_frequencies(rope, config.max_position, longest_chunk);
  return {frequencies.inv_freq, unscaled_inv_freq(rope), frequencies.attention_factor};
}

}  // namespace

AttentionShape attention_shape(const Config& config, int64_t longest_chunk, bool reference) {
  AttentionShape shape;
  const std::vector<int> layers = config.kv_layers();
  shape.n_layers = int(layers.size());
  shape.n_heads = config.n_heads;
  shape.n_kv_heads = config.n_kv_heads;
  shape.v_dim = config.v_dim;
  shape.layout = config.blocks();
  shape.ropes = {rope_of(config.rope, config, longest_chunk)};
  if (config.local_rope) shape.ropes.push_back(rope_of(*config.local_rope, config, longest_chunk));
  const int still = int(shape.ropes.size());
  const size_t n = shape.ropes[0].inv_freq.size();
  bool all_alike = true, any_window = false;
  for (const int l : layers) {
    const LayerAttention& layer = config.layer_attention[size_t(l)];
    const bool rotates = layer.rotation != LayerAttention::Rotation::none;
    const int rope = !rotates ? still : layer.rotation == LayerAttention::Rotation::local ? 1 : 0;
    if (rope == still && int(shape.ropes.size()) == still)
      shape.ropes.push_back({std::vector<double>(n, 0.0), std::vector<double>(n, 0.0), 1});
    shape.rope_of_layer.push_back(rope);
    shape.windows.push_back(layer.window);
    all_alike = all_alike && rope == 0;
    any_window = any_window || layer.window > 0;
  }
  if (all_alike) {
    shape.ropes.resize(1);
    shape.rope_of_layer.clear();
  }
  if (!any_window) shape.windows.clear();
  const double usual = 1 / std::sqrt(double(config.head_dim));
  if (config.attention == AttentionKind::gqa && std::abs(config.attention_scale - usual) > 1e-12 * usual)
    shape.scale = config.attention_scale;
  shape.softcap = config.attention_softcap;
  shape.sinks = config.sinks;
  for (const int l : layers) shape.modules.push_back(attention_module(config, l));
  if (reference) {
    shape.layout = {config.head_dim, config.head_dim, Pairing::half};
    for (Rope& rope : shape.ropes) rope.inv_freq = rope.inv_freq_raw;
  }
  return shape;
}

}  // namespace blockgtq
