#pragma once
#include <functional>
#include <vector>

#include "model/backend.h"
#include "model/rotary.h"
#include "model/weights.h"

namespace blockgtq {

/// What a run of the decoder hands from layer to layer.
struct DecoderState {
  int64_t n_tokens = 0, chunk = 0;
  Past* past = nullptr;  // null: the tokens continue nothing
  RotaryTable rotary;
  std::optional<RotaryTable> local_rotary;  // for the layers with frequencies of their own
  std::vector<float> x;                     // (T, hidden), the residual stream
  std::vector<float> scratch;               // (T, hidden)
  std::vector<float> normed;  // (T, hidden), the norm of x where attention and feed-forward run in parallel
};

/// The layer's index among the layers that have keys and values.
int kv_layer(const Config& config, int layer);

/// Projects q, k and v and calls `show` with them. Unless `stop`, it then adds the attention's output to
/// state.x. A layer without keys and values does not call `show`. Exit::nonfinite where a projection is not
/// finite.
void attention_layer(const Checkpoint& model, const LayerWeights& weights, int layer,
                     const std::function<void(LayerActivations&)>& show, bool stop, DecoderState& state);

/// MLA expands the keys and values of so many tokens at a time: whole chunks, about kLatentSlabTokens tokens.
inline constexpr int64_t kLatentSlabTokens = 1024;
int64_t latent_slab(int64_t chunk);

}  // namespace blockgtq
