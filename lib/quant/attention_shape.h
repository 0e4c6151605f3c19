#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/blocks.h"

namespace blockgtq {

/// The frequencies of one kind of layer. A layer without RoPE has zeros.
struct Rope {
  std::vector<double> inv_freq;      // (n), as the model uses them, one per rotary block
  std::vector<double> inv_freq_raw;  // (n), theta^(-2i/R) without scaling
  double attention_factor = 1;       // multiplies cosines and sines (yarn)
  bool operator==(const Rope&) const = default;
};

/// The model's attention, as every file of ours records it. Shapes in comments use these letters: L layers,
/// Hq query heads, H KV heads, G query heads per KV head, D head dimension, Dv value dimension, R rotary
/// dimension, B = D / 2 blocks, n = R / 2 rotary blocks, T tokens.
struct AttentionShape {
  int n_layers = 0;
  int n_heads = 0;     // Hq, query heads
  int n_kv_heads = 0;  // H
  int v_dim = 0;       // Dv; 0 where values are not cached per head (MLA)
  BlockLayout layout;  // of energies, bits and groups: D, R and the pairing
  std::vector<Rope> ropes = {Rope()};
  std::vector<int> rope_of_layer;    // (n_layers) index into ropes; empty: ropes[0] everywhere
  std::vector<int> windows;          // (n_layers) keys that a query sees, 0: all; empty: all, in every layer
  double scale = 0;                  // factor of q k^T; 0: 1 / sqrt(D)
  double softcap = 0;                // of a logit; 0: none
  bool sinks = false;                // every head has one learned logit without a key
  std::vector<std::string> modules;  // (n_layers) "model.layers.0.self_attn"

  int group() const { return n_heads / n_kv_heads; }  // G
  const Rope& rope(int layer) const {
    return ropes[rope_of_layer.empty() ? 0 : size_t(rope_of_layer[size_t(layer)])];
  }
  int window(int layer) const { return windows.empty() ? 0 : windows[size_t(layer)]; }
  /// Whether layers differ, or logits are not q k^T / sqrt(D).
  bool special() const { return ropes.size() > 1 || !windows.empty() || scale != 0 || softcap != 0 || sinks; }
  /// The layout of the logit error: what RoPE rotates. It differs from `layout` only for partial RoPE under
  /// --compat reference. There the published code pairs (i, i + D/2) for the bits and (i, i + R/2) for the
  /// metric.
  BlockLayout metric_layout() const {
    return {layout.head_dim, 2 * int(ropes[0].inv_freq.size()), layout.pairing};
  }
  bool operator==(const AttentionShape&) const = default;
};

/// Where a file came from: keys and values (model, corpus, command, version, ...) in the order to print.
using Provenance = std::vector<std::pair<std::string, std::string>>;

}  // namespace blockgtq
