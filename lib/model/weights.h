#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "hf/checkpoint.h"

namespace blockgtq {

/// y = x W^T + b with W (rows, cols), mapped from the checkpoint. transposed: the checkpoint stores it as
/// (cols, rows).
struct Linear {
  Tensor weight;
  std::optional<Tensor> bias;
  bool transposed = false;
  int64_t rows() const { return weight.shape[transposed ? 1 : 0]; }
  int64_t cols() const { return weight.shape[transposed ? 0 : 1]; }
};

/// down(act(gate) up), or without a gate down(act(up)). Some checkpoints store gate and up in one matrix that
/// cannot be cut by rows: `both` (2 width, hidden), the gate's rows first or, interleaved, every other row.
struct Mlp {
  Linear gate, up, down;
  std::optional<Linear> both;
  bool interleaved = false;
  int64_t width() const { return down.cols(); }
  std::vector<const Linear*> parts() const;  // those that exist, in the order of use
};

/// An RMS norm, or with a bias a layer norm.
struct Norm {
  Tensor weight;               // (dim)
  std::optional<Tensor> bias;  // (dim)
};

/// A gated delta net: projections of q, k, v and z, of b (beta) and a (decay). q, k and v go through a
/// convolution over the last `kernel` tokens.
struct DeltaWeights {
  std::vector<Linear> in;  // projections (qkvz, ba), or (qkv, z, b, a)
  Tensor conv;             // (2 key heads * key_dim + value heads * value_dim, 1, kernel)
  Tensor decay, dt_bias;   // (value heads); decay is A_log
  Tensor norm;             // (value_dim)
  Linear out;
};

/// One layer's weights, under whatever names its dialect has, with fused tensors split. Their shapes are
/// checked.
struct LayerWeights {
  std::optional<Norm> input_norm, attention_norm;  // before attention, after it
  std::optional<Norm> post_norm, output_norm;      // before the feed-forward part, after it
  std::optional<Tensor> q_norm, k_norm;            // QK-norm (head_dim), or over all heads
  // GQA
  Linear q, k, v, o;
  std::optional<Tensor> sinks;  // (Hq)
  // MLA: q is from q (or q_a, q_a_norm, q_b). The latent is from kv_a and kv_a_norm; kv_b expands it.
  Linear q_a, q_b, kv_a, kv_b;
  std::optional<Tensor> q_a_norm, kv_a_norm;
  std::optional<DeltaWeights> delta;  // in place of attention
  // Dense, or experts with a router (n_experts, hidden) and perhaps a shared expert
  std::optional<Mlp> mlp;
  std::optional<Linear> router;
  std::optional<Tensor> choice_bias;  // (n_experts)
  std::vector<Mlp> experts;
  std::optional<Mlp> shared;
  std::optional<Linear> shared_gate;  // (1, hidden)

  std::vector<const Tensor*> all() const;  // in the order of use
  std::vector<const Tensor*> without_experts() const;
};

/// Exit::input where a tensor is missing or has another shape.
LayerWeights layer_weights(const Checkpoint& model, int layer);

/// The weights outside the layers.
struct OuterWeights {
  Tensor embedding;  // (vocab, hidden)
  Norm final_norm;   // (hidden)
  Linear lm_head;    // the embedding where the two are tied
};
/// Exit::input as layer_weights().
OuterWeights outer_weights(const Checkpoint& model);

/// The same of any model of this config, in bf16: shapes without data.
LayerWeights expected_layer(const Config& config, int layer);
OuterWeights expected_outer(const Config& config);

/// "model.layers.0." or the dialect's own name.
std::string layer_prefix(const Config& config, int layer);
/// "model.layers.0.self_attn" or the dialect's own name.
std::string attention_module(const Config& config, int layer);

/// The name and shape of every tensor that a model of this config has, layer by layer, named as in its
/// checkpoints.
std::vector<std::pair<std::string, std::vector<int64_t>>> expected_tensors(const Config& config);

/// Looks every tensor up once, so that a missing or mis-shaped one is found before work starts (Exit::input).
/// Returns warnings, one line each: what of config and tensors the model does not use.
std::vector<std::string> check_weights(const Checkpoint& model);

}  // namespace blockgtq
