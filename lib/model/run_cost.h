#pragma once
#include <cstdint>
#include <string>

#include "hf/config.h"

namespace blockgtq {

/// The numbers that a model's weights are, whatever type they are stored in.
struct ModelSize {
  int64_t numbers = 0;          // an embedding that is the output layer as well counts once
  int64_t largest_layer = 0;    // of these
  double layer_products = 0;    // of a token with the matrices of all layers; of experts those it visits
  int64_t output_products = 0;  // with the output layer
};
ModelSize model_size(const Config& config);

/// Bytes of activations that a pass over n tokens in windows of `chunk` (0: one) keeps at its peak on the
/// CPU.
int64_t activation_bytes(const Config& config, int64_t n_tokens, int64_t chunk, bool logits);

/// A pass over n tokens on this CPU: the operations of its matrix products (a product is two), and how many
/// of them this machine does in a second, measured here and now.
struct PassTime {
  double operations = 0, rate = 0;
  double seconds() const { return operations / rate; }
  std::string text() const;  // "about 3.1 s a pass on this CPU (...)"
};
PassTime pass_time(const ModelSize& size, int64_t n_tokens);

}  // namespace blockgtq
