#pragma once
#include <cstdint>
#include <vector>

namespace blockgtq {

/// What a sequence has behind it, as attention reads it: every forward pass that is given it continues the
/// sequence and adds its own tokens. Keys after RoPE; of a latent cache (MLA) the rotary part, and the normed
/// latent in the place of values. float32.
struct Past {
  struct Layer {
    std::vector<float> k, v;                // (T, Hkv, D), (T, Hkv, Dv); MLA: (T, rope), (T, lora)
    std::vector<float> recent_k, recent_v;  // the same as what queries see of their last positions where that
                                            // differs (LayerActivations::recent); else empty
  };
  int64_t n = 0;              // T
  int64_t context = 0;        // the most that T may come to: RoPE's frequencies are those for so many
  std::vector<Layer> layers;  // of those that have keys and values
};

}  // namespace blockgtq
