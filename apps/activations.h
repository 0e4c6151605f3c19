#pragma once
#include <memory>
#include <string>

#include "store/acts_file.h"

namespace blockgtq {

/// Q, K and V of every layer before RoPE, from a file.
class Activations {
 public:
  virtual ~Activations() = default;
  virtual const ActsHeader& header() const = 0;
  virtual ActsReader::Layer read_layer(int layer) const = 0;
};

/// ACTS.h5, or a safetensors file that another program wrote (apps/README.md, "Activations from elsewhere"):
///   layers.N.q (T, Hq, D), layers.N.k (T, H, D), maybe layers.N.v (T, H, Dv) and layers.N.output (H, Dv,
///   Dv), inv_freq (R / 2): F32, F16 or BF16 metadata: chunk (tokens of a window; 0, the default: one),
///   pairing (half, the default, or interleaved), attention_factor (1), model (any text)
/// N are the model's numbers of the layers. Exit::input for anything else in either.
std::unique_ptr<Activations> open_activations(const std::string& path);

}  // namespace blockgtq
