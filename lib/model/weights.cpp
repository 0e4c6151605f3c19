// Where each dialect keeps its weights. One description serves the forward pass (tensors of a checkpoint) and
// expected_tensors() (names and shapes alone).
#include "model/weights.h"

#include <fmt/format.h>

#include <functional>

#include "model/other_tensors.h"

namespace blockgtq {

namespace {

/// A tensor by name and shape, from wherever.
using Lookup = std::function<Tensor(const std::string& name, const std::vector<int64_t>& shape)>;

Linear find_linear(const Lookup& get, const std::string& name, int64_t rows, int64_t cols, bool bias) {
  Linear out;
  out.weight = get(name + ".weight", {rows, cols});
  if (bias) out.bias = get(name + ".bias", {rows});
  return out;
}

/// Rows [first, first + n) of a fused projection.
Linear part(const Linear& fused, int64_t first, int64_t n) {
  Linear out;
  out.weight = fused.weight.rows(first, n);
  if (fused.bias) out.bias = fused.bias->rows(first, n);
  return out;
}

Mlp find_mlp(const Lookup& get, const std::string& prefix, int64_t hidden, int64_t intermediate, bool bias) {
  Mlp out;
  out.gate = find_linear(get, prefix + "gate_proj", intermediate, hidden, bias);
  out.up = find_linear(get, prefix + "up_proj", intermediate, hidden, bias);
  out.down = find_linear(get, prefix + "down_proj", hidden, intermediate, bias);
  return out;
}

/// [gate; up] in one tensor.
Mlp find_fused_mlp(const Lookup& get, const std::string& gate_up, const std::string& down, const Config& c) {
  const Linear fused = find_linear(get, gate_up, 2 * int64_t(c.intermediate), c.hidden, c.mlp_bias);
  Mlp out;
  out.gate = part(fused, 0, c.intermediate);
  out.up = part(fused, c.intermediate, c.intermediate);
  out.down = find_linear(get, down, c.hidden, c.intermediate, c.mlp_bias);
  return out;
}

void find_attention(const Lookup& get, const std::string& prefix, const Config& c, LayerWeights& out) {
  const int64_t q_rows = int64_t(c.n_heads) * c.head_dim;
  const int64_t k_rows = int64_t(c.n_kv_heads) * c.head_dim, v_rows = int64_t(c.n_kv_heads) * c.v_dim;
  out.q = find_linear(get, prefix + "q_proj", q_rows, c.hidden, c.qkv_bias);
  out.k = find_linear(get, prefix + "k_proj", k_rows, c.hidden, c.qkv_bias);
  out.v = find_linear(get, prefix + "v_proj", v_rows, c.hidden, c.qkv_bias);
  out.o = find_linear(get, prefix + "o_proj", c.hidden, int64_t(c.n_heads) * c.v_dim, c.o_bias);
  if (c.qk_norm) {
    out.q_norm = get(prefix + "q_norm.weight", {c.head_dim});
    out.k_norm = get(prefix + "k_norm.weight", {c.head_dim});
  }
}

/// DeepSeek-V2: queries and the joint latent of keys and values, each of low rank.
void find_latent_attention(const Lookup& get, const std::string& prefix, const Config& c, LayerWeights& out) {
  const MlaConfig& m = c.mla;
  const int64_t q_rows = int64_t(c.n_heads) * (m.nope_dim + m.rope_dim);
  if (m.q_lora_rank == 0) {
    out.q = find_linear(get, prefix + "q_proj", q_rows, c.hidden, false);
  } else {
    out.q_a = find_linear(get, prefix + "q_a_proj", m.q_lora_rank, c.hidden, c.qkv_bias);
    out.q_a_norm = get(prefix + "q_a_layernorm.weight", {m.q_lora_rank});
    out.q_b = find_linear(get, prefix + "q_b_proj", q_rows, m.q_lora_rank, false);
  }
  out.kv_a =
      find_linear(get, prefix + "kv_a_proj_with_mqa", m.kv_lora_rank + m.rope_dim, c.hidden, c.qkv_bias);
  out.kv_a_norm = get(prefix + "kv_a_layernorm.weight", {m.kv_lora_rank});
  const int64_t kv_rows = int64_t(c.n_heads) * (m.nope_dim + m.v_dim);
  out.kv_b = find_linear(get, prefix + "kv_b_proj", kv_rows, m.kv_lora_rank, false);
  out.o = find_linear(get, prefix + "o_proj", c.hidden, int64_t(c.n_heads) * m.v_dim, c.o_bias);
}

void find_experts(const Lookup& get, const std::string& prefix, const Config& c, LayerWeights& out) {
  const MoeConfig& moe = c.moe;
  out.router = find_linear(get, prefix + "gate", moe.n_experts, c.hidden, false);
  out.experts.reserve(size_t(moe.n_experts));
  for (int e = 0; e < moe.n_experts; ++e)
    out.experts.push_back(
        find_mlp(get, fmt::format("{}experts.{}.", prefix, e), c.hidden, moe.intermediate, false));
  if (moe.n_shared > 0)
    out.shared = find_mlp(get, prefix + "shared_experts.", c.hidden, int64_t(moe.n_shared) * moe.intermediate,
                          c.mlp_bias);
}

LayerWeights find_layer(const Lookup& get, const Config& c, int layer) {
  LayerWeights out;
  const std::string prefix = layer_prefix(c, layer), attention = attention_module(c, layer) + ".";
  out.input_norm = get(prefix + "input_layernorm.weight", {c.hidden});
  out.post_norm = get(prefix + "post_attention_layernorm.weight", {c.hidden});
  switch (c.dialect) {
    case Dialect::llama:
      find_attention(get, attention, c, out);
      break;
    case Dialect::glm:
      find_attention(get, attention, c, out);
      out.mlp = find_fused_mlp(get, prefix + "mlp.gate_up_proj", prefix + "mlp.down_proj", c);
      return out;
    case Dialect::chatglm: {
      // [all query heads | all key heads | all value heads]
      const int64_t nq = int64_t(c.n_heads) * c.head_dim, nk = int64_t(c.n_kv_heads) * c.head_dim;
      const Linear fused = find_linear(get, attention + "query_key_value", nq + 2 * nk, c.hidden, c.qkv_bias);
      out.q = part(fused, 0, nq);
      out.k = part(fused, nq, nk);
      out.v = part(fused, nq + nk, nk);
      out.o = find_linear(get, attention + "dense", c.hidden, nq, c.o_bias);
      out.mlp = find_fused_mlp(get, prefix + "mlp.dense_h_to_4h", prefix + "mlp.dense_4h_to_h", c);
      return out;
    }
    case Dialect::deepseek_v2:
      find_latent_attention(get, attention, c, out);
      break;
  }
  if (c.layer_is_moe[size_t(layer)]) {
    find_experts(get, prefix + "mlp.", c, out);
  } else {
    out.mlp = find_mlp(get, prefix + "mlp.", c.hidden, c.intermediate, c.mlp_bias);
  }
  return out;
}

OuterWeights find_outer(const Lookup& get, const Config& c) {
  const bool chatglm = c.dialect == Dialect::chatglm;
  OuterWeights out;
  out.embedding = get(embedding_name(c.dialect), {c.vocab, c.hidden});
  out.final_norm =
      get(chatglm ? "transformer.encoder.final_layernorm.weight" : "model.norm.weight", {c.hidden});
  out.lm_head.weight = c.tied ? out.embedding : get(head_name(c.dialect), {c.vocab, c.hidden});
  return out;
}

Lookup lookup(const Checkpoint& model) {
  return
      [&model](const std::string& name, const std::vector<int64_t>& shape) { return model.get(name, shape); };
}

void append(const Linear& linear, std::vector<const Tensor*>& out) {
  if (linear.weight.shape.empty()) return;  // not of this kind of attention
  out.push_back(&linear.weight);
  if (linear.bias) out.push_back(&*linear.bias);
}

void append(const std::optional<Tensor>& tensor, std::vector<const Tensor*>& out) {
  if (tensor) out.push_back(&*tensor);
}

void append(const Mlp& mlp, std::vector<const Tensor*>& out) {
  append(mlp.gate, out);
  append(mlp.up, out);
  append(mlp.down, out);
}

}  // namespace

std::vector<const Tensor*> LayerWeights::without_experts() const {
  std::vector<const Tensor*> out;
  out.push_back(&input_norm);
  append(q, out);
  append(q_a, out);
  append(q_a_norm, out);
  append(q_b, out);
  append(kv_a, out);
  append(k, out);
  append(v, out);
  append(q_norm, out);
  append(k_norm, out);
  append(kv_a_norm, out);
  append(kv_b, out);
  append(o, out);
  out.push_back(&post_norm);
  if (mlp) append(*mlp, out);
  if (router) append(*router, out);
  if (shared) append(*shared, out);
  return out;
}

std::vector<const Tensor*> LayerWeights::all() const {
  std::vector<const Tensor*> out = without_experts();
  for (const Mlp& expert : experts) append(expert, out);
  return out;
}

std::string layer_prefix(const Config& config, int layer) {
  const char* stack = config.dialect == Dialect::chatglm ? "transformer.encoder" : "model";
  return fmt::format("{}.layers.{}.", stack, layer);
}

std::string attention_module(const Config& config, int layer) {
  return layer_prefix(config, layer) + (config.dialect == Dialect::chatglm ? "self_attention" : "self_attn");
}

LayerWeights layer_weights(const Checkpoint& model, int layer) {
  return find_layer(lookup(model), model.config(), layer);
}

OuterWeights outer_weights(const Checkpoint& model) {
  return find_outer(lookup(model), model.config());
}

std::vector<std::pair<std::string, std::vector<int64_t>>> expected_tensors(const Config& config) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> out;
  const Lookup record = [&out](const std::string& name, const std::vector<int64_t>& shape) {
    out.emplace_back(name, shape);
    Tensor tensor;
    tensor.name = name;
    tensor.dtype = DType::bf16;
    tensor.shape = shape;
    return tensor;
  };
  find_outer(record, config);
  for (int layer = 0; layer < config.n_layers; ++layer) find_layer(record, config, layer);
  return out;
}

std::vector<std::string> check_weights(const Checkpoint& model) {
  refuse_other_names(model);
  outer_weights(model);
  for (int layer = 0; layer < model.config().n_layers; ++layer) layer_weights(model, layer);
  std::vector<std::string> remarks = model.config().remarks;
  if (std::string unused = unused_tensors(model); !unused.empty()) remarks.push_back(std::move(unused));
  return remarks;
}

}  // namespace blockgtq
