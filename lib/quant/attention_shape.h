#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/blocks.h"

namespace blockgtq {

/// What every file of ours says about the model's attention.
struct AttentionShape {
  int n_layers = 0;
  int n_heads = 0;     // Hq, query heads
  int n_kv_heads = 0;  // H
  int v_dim = 0;       // Dv; 0 where values are not cached per head (MLA)
  BlockLayout layout;
  std::vector<double> inv_freq;      // (rotary_dim / 2), as the model uses them
  std::vector<double> inv_freq_raw;  // (rotary_dim / 2), theta^(-2i/R) without scaling
  std::vector<std::string> modules;  // (n_layers) "model.layers.0.self_attn"

  int group() const { return n_heads / n_kv_heads; }  // G
  bool operator==(const AttentionShape&) const = default;
};

/// Where a file came from, as key and value: model, corpus, command, version, ... in the order to print.
using Provenance = std::vector<std::pair<std::string, std::string>>;

}  // namespace blockgtq
