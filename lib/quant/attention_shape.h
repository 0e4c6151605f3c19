#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/blocks.h"

namespace blockgtq {

/// What every file of ours says about the model's attention.
struct AttentionShape {
  int n_layers = 0;
  int n_heads = 0;                   // Hq, query heads
  int n_kv_heads = 0;                // H
  int v_dim = 0;                     // Dv; 0 where values are not cached per head (MLA)
  BlockLayout layout;                // of energies, bits and groups
  std::vector<double> inv_freq;      // (n), as the model uses them, one per rotary block
  std::vector<double> inv_freq_raw;  // (n), theta^(-2i/R) without scaling
  double attention_factor = 1;       // on cosines and sines (yarn)
  std::vector<std::string> modules;  // (n_layers) "model.layers.0.self_attn"

  int group() const { return n_heads / n_kv_heads; }  // G
  /// What RoPE rotates: the layout of the logit error. Differs from `layout` only for partial RoPE under
  /// --compat reference, where the published code pairs (i, i + D/2) for the bits and (i, i + R/2) for the
  /// metric.
  BlockLayout metric_layout() const { return {layout.head_dim, 2 * int(inv_freq.size()), layout.pairing}; }
  bool operator==(const AttentionShape&) const = default;
};

/// Where a file came from, as key and value: model, corpus, command, version, ... in the order to print.
using Provenance = std::vector<std::pair<std::string, std::string>>;

}  // namespace blockgtq
