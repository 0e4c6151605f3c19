#pragma once
#include <cstdint>
#include <vector>

namespace blockgtq {

/// The keys and values of a sequence so far, as attention reads them. A forward pass that is given a Past
/// continues the sequence and adds its own tokens. Keys are after RoPE. A latent cache (MLA) has the rotary
/// part as keys, and the normed latent as values. float32.
struct Past {
  struct Layer {
    std::vector<float> k, v;  // (T, Hkv, D), (T, Hkv, Dv); MLA: (T, rope), (T, lora)
    /// The same as queries see it at their most recent positions (LayerActivations::recent); empty where that
    /// does not differ.
    std::vector<float> recent_k, recent_v;
  };
  int64_t n = 0;              // T
  int64_t context = 0;        // the most tokens that it may grow to; RoPE's frequencies are those for so many
  std::vector<Layer> layers;  // of those that have keys and values
};

}  // namespace blockgtq
