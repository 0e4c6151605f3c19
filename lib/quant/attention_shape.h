#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/blocks.h"

namespace blockgtq {

/// How a layer's blocks turn; a layer that does not rotate has zeros.
struct Rope {
  std::vector<double> inv_freq;      // (n), as the model uses them, one per rotary block
  std::vector<double> inv_freq_raw;  // (n), theta^(-2i/R) without scaling
  double attention_factor = 1;       // on cosines and sines (yarn)
  bool operator==(const Rope&) const = default;
};

/// What every file of ours says about the model's attention.
struct AttentionShape {
  int n_layers = 0;
  int n_heads = 0;     // Hq, query heads
  int n_kv_heads = 0;  // H
  int v_dim = 0;       // Dv; 0 where values are not cached per head (MLA)
  BlockLayout layout;  // of energies, bits and groups
  std::vector<Rope> ropes = {Rope()};
  std::vector<int> rope_of_layer;    // (n_layers), index into ropes; empty: all by the first
  std::vector<int> windows;          // (n_layers) keys that a query sees, 0: all; empty: all everywhere
  double scale = 0;                  // of q k^T; 0: 1 / sqrt(D)
  double softcap = 0;                // of a logit; 0: none
  bool sinks = false;                // heads have one more logit, without a key
  std::vector<std::string> modules;  // (n_layers) "model.layers.0.self_attn"

  int group() const { return n_heads / n_kv_heads; }  // G
  const Rope& rope(int layer) const {
    return ropes[rope_of_layer.empty() ? 0 : size_t(rope_of_layer[size_t(layer)])];
  }
  int window(int layer) const { return windows.empty() ? 0 : windows[size_t(layer)]; }
  /// Whether something differs from layer to layer, or logits are not q k^T / sqrt(D).
  bool special() const { return ropes.size() > 1 || !windows.empty() || scale != 0 || softcap != 0 || sinks; }
  /// What RoPE rotates: the layout of the logit error. Differs from `layout` only for partial RoPE under
  /// --compat reference, where the published code pairs (i, i + D/2) for the bits and (i, i + R/2) for the
  /// metric.
  BlockLayout metric_layout() const {
    return {layout.head_dim, 2 * int(ropes[0].inv_freq.size()), layout.pairing};
  }
  bool operator==(const AttentionShape&) const = default;
};

/// Where a file came from, as key and value: model, corpus, command, version, ... in the order to print.
using Provenance = std::vector<std::pair<std::string, std::string>>;

}  // namespace blockgtq
