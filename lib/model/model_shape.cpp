#include "model/model_shape.h"

#include "model/weights.h"

namespace blockgtq {

AttentionShape attention_shape(const Config& config, int64_t longest_chunk, bool reference) {
  AttentionShape shape;
  shape.n_layers = config.n_layers;
  shape.n_heads = config.n_heads;
  shape.n_kv_heads = config.n_kv_heads;
  shape.v_dim = config.v_dim;
  shape.layout = config.blocks();
  const RopeFrequencies frequencies = rope_frequencies(config.rope, config.max_position, longest_chunk);
  shape.inv_freq = frequencies.inv_freq;
  shape.attention_factor = frequencies.attention_factor;
  shape.inv_freq_raw = unscaled_inv_freq(config.rope);
  for (int l = 0; l < config.n_layers; ++l) shape.modules.push_back(attention_module(config, l));
  if (reference) {
    shape.layout = {config.head_dim, config.head_dim, Pairing::half};
    shape.inv_freq = shape.inv_freq_raw;
  }
  return shape;
}

}  // namespace blockgtq
