#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "hf/checkpoint.h"

namespace blockgtq {

/// y = x W^T + b with W (rows, cols) where it lies in the checkpoint.
struct Linear {
  Tensor weight;
  std::optional<Tensor> bias;
  int64_t rows() const { return weight.shape[0]; }
  int64_t cols() const { return weight.shape[1]; }
};

struct Mlp {
  Linear gate, up, down;
};

/// One layer's weights under the names of all dialects, fused tensors taken apart. Shapes are checked here.
struct LayerWeights {
  Tensor input_norm, post_norm;
  std::optional<Tensor> q_norm, k_norm;  // QK-norm (head_dim)
  // GQA
  Linear q, k, v, o;
  // MLA: q from q (or q_a, q_a_norm, q_b); latent from kv_a, kv_a_norm, expanded by kv_b
  Linear q_a, q_b, kv_a, kv_b;
  std::optional<Tensor> q_a_norm, kv_a_norm;
  // dense, or experts with router (n_experts, hidden) and shared expert
  std::optional<Mlp> mlp;
  std::optional<Linear> router;
  std::vector<Mlp> experts;
  std::optional<Mlp> shared;

  std::vector<const Tensor*> all() const;  // in the order of use
  std::vector<const Tensor*> without_experts() const;
};

LayerWeights layer_weights(const Checkpoint& model, int layer);

struct OuterWeights {
  Tensor embedding;   // (vocab, hidden)
  Tensor final_norm;  // (hidden)
  Linear lm_head;     // the embedding when tied
};
OuterWeights outer_weights(const Checkpoint& model);

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
