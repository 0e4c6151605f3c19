#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "hf/checkpoint.h"

namespace blockgtq {

/// y = x W^T + b with W (rows, cols) where it lies in the checkpoint; transposed: it lies there as (cols,
/// rows).
struct Linear {
  Tensor weight;
  std::optional<Tensor> bias;
  bool transposed = false;
  int64_t rows() const { return weight.shape[transposed ? 1 : 0]; }
  int64_t cols() const { return weight.shape[transposed ? 0 : 1]; }
};

/// down(act(gate) up). Without a gate: down(act(up)). Gate and up may lie in one matrix that is not to be
/// taken apart by rows: `both` (2 width, hidden), gate's rows first or (interleaved) every other row.
struct Mlp {
  Linear gate, up, down;
  std::optional<Linear> both;
  bool interleaved = false;
  int64_t width() const { return down.cols(); }
  std::vector<const Linear*> parts() const;  // those that there are, in the order of use
};

struct Norm {
  Tensor weight;               // (dim)
  std::optional<Tensor> bias;  // (dim), of a layer norm
};

/// A gated delta net: the projections of q, k, v and z, of b (beta) and a (decay); for q, k and v a
/// convolution over the last `kernel` tokens.
struct DeltaWeights {
  std::vector<Linear> in;  // (qkvz, ba), or (qkv, z, b, a)
  Tensor conv;             // (2 key heads * key_dim + value heads * value_dim, 1, kernel)
  Tensor decay, dt_bias;   // (value heads); decay is A_log
  Tensor norm;             // (value_dim)
  Linear out;
};

/// One layer's weights under the names of all dialects, fused tensors taken apart. Shapes are checked here.
struct LayerWeights {
  std::optional<Norm> input_norm, attention_norm;  // before attention, and of its output
  std::optional<Norm> post_norm, output_norm;      // before the feed-forward part, and of its output
  std::optional<Tensor> q_norm, k_norm;            // QK-norm (head_dim), or over all heads
  // GQA
  Linear q, k, v, o;
  std::optional<Tensor> sinks;  // (Hq)
  // MLA: q from q (or q_a, q_a_norm, q_b); latent from kv_a, kv_a_norm, expanded by kv_b
  Linear q_a, q_b, kv_a, kv_b;
  std::optional<Tensor> q_a_norm, kv_a_norm;
  std::optional<DeltaWeights> delta;  // in attention's place
  // dense, or experts with router (n_experts, hidden) and shared expert
  std::optional<Mlp> mlp;
  std::optional<Linear> router;
  std::optional<Tensor> choice_bias;  // (n_experts)
  std::vector<Mlp> experts;
  std::optional<Mlp> shared;
  std::optional<Linear> shared_gate;  // (1, hidden)

  std::vector<const Tensor*> all() const;  // in the order of use
  std::vector<const Tensor*> without_experts() const;
};

LayerWeights layer_weights(const Checkpoint& model, int layer);

struct OuterWeights {
  Tensor embedding;  // (vocab, hidden)
  Norm final_norm;   // (hidden)
  Linear lm_head;    // the embedding when tied
};
OuterWeights outer_weights(const Checkpoint& model);

/// The same of any model of this config, in bf16: shapes without data.
LayerWeights expected_layer(const Config& config, int layer);
OuterWeights expected_outer(const Config& config);

/// "model.layers.0." or the dialect's own name.
std::string layer_prefix(const Config& config, int layer);
/// "model.layers.0.self_attn" or the dialect's own name.
std::string attention_module(const Config& config, int layer);

/// Every tensor a model of this config has, with its shape: names as in its checkpoints, layer by layer.
std::vector<std::pair<std::string, std::vector<int64_t>>> expected_tensors(const Config& config);

/// Looks every tensor up once, so that a missing or mis-shaped one is found before work starts. Returns what
/// the user should be told, one line each: what of config and tensors the model leaves aside.
std::vector<std::string> check_weights(const Checkpoint& model);

}  // namespace blockgtq
