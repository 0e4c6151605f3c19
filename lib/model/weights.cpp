// Where each dialect has its weights. One description serves both the forward pass (tensors of a checkpoint)
// and
// expected_tensors() (names and shapes only).
#include <fmt/format.h>

#include "model/other_tensors.h"
#include "model/weights_source.h"

namespace blockgtq {

Linear find_linear(const WeightSource& from, const std::string& name, int64_t rows, int64_t cols, bool bias) {
  Linear out;
  out.weight = from.get(name + ".weight", {rows, cols});
  if (bias) out.bias = from.get(name + ".bias", {rows});
  return out;
}

Linear part(const Linear& fused, int64_t first, int64_t n) {
  Linear out;
  out.weight = fused.weight.rows(first, n);
  if (fused.bias) out.bias = fused.bias->rows(first, n);
  return out;
}

Mlp find_mlp(const WeightSource& from, const std::string& prefix, int64_t hidden, int64_t intermediate,
             bool bias) {
  Mlp out;
  out.gate = find_linear(from, prefix + "gate_proj", intermediate, hidden, bias);
  out.up = find_linear(from, prefix + "up_proj", intermediate, hidden, bias);
  out.down = find_linear(from, prefix + "down_proj", hidden, intermediate, bias);
  return out;
}

namespace {

/// An MLP whose [gate; up] is one tensor.
Mlp find_fused_mlp(const WeightSource& from, const std::string& gate_up, const std::string& down,
                   const Config& c) {
  const Linear fused = find_linear(from, gate_up, 2 * int64_t(c.intermediate), c.hidden, c.mlp_bias);
  Mlp out;
  out.gate = part(fused, 0, c.intermediate);
  out.up = part(fused, c.intermediate, c.intermediate);
  out.down = find_linear(from, down, c.hidden, c.intermediate, c.mlp_bias);
  return out;
}

Norm find_norm(const WeightSource& from, const std::string& name, const Config& c) {
  Norm out;
  out.weight = from.get(name + ".weight", {c.hidden});
  if (c.norm_bias) out.bias = from.get(name + ".bias", {c.hidden});
  return out;
}

void find_norms(const WeightSource& from, const std::string& prefix, const Config& c, LayerWeights& out) {
  const bool glm = c.dialect == Dialect::glm;
  switch (c.norm_place) {
    case NormPlace::before:
      out.input_norm = find_norm(from, prefix + "input_layernorm", c);
      out.post_norm = find_norm(from, prefix + "post_attention_layernorm", c);
      break;
    case NormPlace::after:
      out.attention_norm = find_norm(from, prefix + "post_attention_layernorm", c);
      out.output_norm = find_norm(from, prefix + "post_feedforward_layernorm", c);
      break;
    case NormPlace::both:
      out.input_norm = find_norm(from, prefix + "input_layernorm", c);
      out.attention_norm =
          find_norm(from, prefix + (glm ? "post_self_attn_layernorm" : "post_attention_layernorm"), c);
      out.post_norm =
          find_norm(from, prefix + (glm ? "post_attention_layernorm" : "pre_feedforward_layernorm"), c);
      out.output_norm =
          find_norm(from, prefix + (glm ? "post_mlp_layernorm" : "post_feedforward_layernorm"), c);
      break;
    case NormPlace::parallel:
      out.input_norm = find_norm(from, prefix + "input_layernorm", c);
      break;
  }
}

void find_attention(const WeightSource& from, const std::string& prefix, const Config& c, LayerWeights& out) {
  const int64_t q_rows = int64_t(c.n_heads) * c.head_dim;
  const int64_t k_rows = int64_t(c.n_kv_heads) * c.head_dim, v_rows = int64_t(c.n_kv_heads) * c.v_dim;
  out.q = find_linear(from, prefix + "q_proj", (c.gated_output ? 2 : 1) * q_rows, c.hidden, c.qkv_bias);
  out.k = find_linear(from, prefix + "k_proj", k_rows, c.hidden, c.qkv_bias);
  out.v = find_linear(from, prefix + "v_proj", v_rows, c.hidden, c.qkv_bias);
  out.o = find_linear(from, prefix + "o_proj", c.hidden, int64_t(c.n_heads) * c.v_dim, c.o_bias);
  if (c.qk_norm != QkNorm::none) {
    const bool full = c.qk_norm == QkNorm::full;
    out.q_norm = from.get(prefix + "q_norm.weight", {full ? q_rows : c.head_dim});
    out.k_norm = from.get(prefix + "k_norm.weight", {full ? k_rows : c.head_dim});
  }
  if (c.sinks) out.sinks = from.get(prefix + "sinks", {c.n_heads});
}

/// Attention whose [all query heads | all key heads | all value heads] is one tensor.
void find_fused_attention(const WeightSource& from, const std::string& qkv, const std::string& o,
                          const Config& c, LayerWeights& out) {
  const int64_t nq = int64_t(c.n_heads) * c.head_dim, nk = int64_t(c.n_kv_heads) * c.head_dim;
  const Linear fused = find_linear(from, qkv, nq + 2 * nk, c.hidden, c.qkv_bias);
  out.q = part(fused, 0, nq);
  out.k = part(fused, nq, nk);
  out.v = part(fused, nq + nk, nk);
  out.o = find_linear(from, o, c.hidden, nq, c.o_bias);
}

/// Latent attention of DeepSeek-V2: queries, and the joint latent of keys and values, each of low rank.
void find_latent_attention(const WeightSource& from, const std::string& prefix, const Config& c,
                           LayerWeights& out) {
  const MlaConfig& m = c.mla;
  const int64_t q_rows = int64_t(c.n_heads) * (m.nope_dim + m.rope_dim);
  if (m.q_lora_rank == 0) {
    out.q = find_linear(from, prefix + "q_proj", q_rows, c.hidden, false);
  } else {
    out.q_a = find_linear(from, prefix + "q_a_proj", m.q_lora_rank, c.hidden, c.qkv_bias);
    out.q_a_norm = from.get(prefix + "q_a_layernorm.weight", {m.q_lora_rank});
    out.q_b = find_linear(from, prefix + "q_b_proj", q_rows, m.q_lora_rank, false);
  }
  out.kv_a =
      find_linear(from, prefix + "kv_a_proj_with_mqa", m.kv_lora_rank + m.rope_dim, c.hidden, c.qkv_bias);
  out.kv_a_norm = from.get(prefix + "kv_a_layernorm.weight", {m.kv_lora_rank});
  const int64_t kv_rows = int64_t(c.n_heads) * (m.nope_dim + m.v_dim);
  out.kv_b = find_linear(from, prefix + "kv_b_proj", kv_rows, m.kv_lora_rank, false);
  out.o = find_linear(from, prefix + "o_proj", c.hidden, int64_t(c.n_heads) * m.v_dim, c.o_bias);
}

DeltaWeights find_delta(const WeightSource& from, const std::string& prefix, const Config& c) {
  const DeltaConfig& d = c.delta;
  const int64_t keys = int64_t(d.n_key_heads) * d.key_dim, values = int64_t(d.n_value_heads) * d.value_dim;
  DeltaWeights out;
  const auto in = [&](const char* name, int64_t rows) {
    out.in.push_back(find_linear(from, prefix + name, rows, c.hidden, false));
  };
  if (d.fused) {
    in("in_proj_qkvz", 2 * keys + 2 * values);
    in("in_proj_ba", 2 * int64_t(d.n_value_heads));
  } else {
    in("in_proj_qkv", 2 * keys + values);
    in("in_proj_z", values);
    in("in_proj_b", d.n_value_heads);
    in("in_proj_a", d.n_value_heads);
  }
  out.conv = from.get(prefix + "conv1d.weight", {2 * keys + values, 1, d.kernel});
  out.decay = from.get(prefix + "A_log", {d.n_value_heads});
  out.dt_bias = from.get(prefix + "dt_bias", {d.n_value_heads});
  out.norm = from.get(prefix + "norm.weight", {d.value_dim});
  out.out = find_linear(from, prefix + "out_proj", c.hidden, values, false);
  return out;
}

void find_dense(const WeightSource& from, const std::string& prefix, const Config& c, LayerWeights& out) {
  switch (c.dialect) {
    case Dialect::llama:
    case Dialect::deepseek:
      out.mlp = find_mlp(from, prefix, c.hidden, c.intermediate, c.mlp_bias);
      break;
    case Dialect::glm:
    case Dialect::phi3:
      out.mlp = find_fused_mlp(from, prefix + "gate_up_proj", prefix + "down_proj", c);
      break;
    case Dialect::chatglm:
      out.mlp = find_fused_mlp(from, prefix + "dense_h_to_4h", prefix + "dense_4h_to_h", c);
      break;
    case Dialect::starcoder2:
      out.mlp.emplace();
      out.mlp->up = find_linear(from, prefix + "c_fc", c.intermediate, c.hidden, c.mlp_bias);
      out.mlp->down = find_linear(from, prefix + "c_proj", c.hidden, c.intermediate, c.mlp_bias);
      break;
  }
}

LayerWeights find_layer(const WeightSource& from, const Config& c, int layer) {
  LayerWeights out;
  const std::string prefix = layer_prefix(c, layer), attention = attention_module(c, layer) + ".";
  find_norms(from, prefix, c, out);
  if (c.layer_attention[size_t(layer)].delta) {
    out.delta = find_delta(from, prefix + "linear_attn.", c);
  } else if (c.attention == AttentionKind::mla) {
    find_latent_attention(from, attention, c, out);
  } else if (c.dialect == Dialect::chatglm) {
    find_fused_attention(from, attention + "query_key_value", attention + "dense", c, out);
  } else if (c.dialect == Dialect::phi3) {
    find_fused_attention(from, attention + "qkv_proj", attention + "o_proj", c, out);
  } else {
    find_attention(from, attention, c, out);
  }
  if (c.layer_is_moe[size_t(layer)]) {
    find_experts(from, prefix, c, out);
  } else {
    find_dense(from, prefix + "mlp.", c, out);
  }
  return out;
}

OuterWeights find_outer(const WeightSource& from, const Config& c) {
  const bool chatglm = c.dialect == Dialect::chatglm;
  OuterWeights out;
  out.embedding = from.get(embedding_name(c), {c.vocab, c.hidden});
  out.final_norm = find_norm(from, chatglm ? "transformer.encoder.final_layernorm" : c.prefix + "norm", c);
  out.lm_head.weight = c.tied ? out.embedding : from.get(head_name(c), {c.vocab, c.hidden});
  return out;
}

WeightSource source(const Checkpoint& model) {
  return {
      [&model](const std::string& name, const std::vector<int64_t>& shape) { return model.get(name, shape); },
      [&model](const std::string& name) { return model.find(name); }};
}

void append(const Linear& linear, std::vector<const Tensor*>& out) {
  if (linear.weight.shape.empty()) return;  // this kind of attention does not have it
  out.push_back(&linear.weight);
  if (linear.bias) out.push_back(&*linear.bias);
}

void append(const std::optional<Tensor>& tensor, std::vector<const Tensor*>& out) {
  if (tensor) out.push_back(&*tensor);
}

void append(const std::optional<Norm>& norm, std::vector<const Tensor*>& out) {
  if (!norm) return;
  out.push_back(&norm->weight);
  append(norm->bias, out);
}

void append(const Mlp& mlp, std::vector<const Tensor*>& out) {
  for (const Linear* linear : mlp.parts()) append(*linear, out);
}

void append(const DeltaWeights& delta, std::vector<const Tensor*>& out) {
  for (const Linear& linear : delta.in) append(linear, out);
  for (const Tensor* tensor : {&delta.conv, &delta.decay, &delta.dt_bias, &delta.norm}) out.push_back(tensor);
  append(delta.out, out);
}

}  // namespace

std::vector<const Linear*> Mlp::parts() const {
  std::vector<const Linear*> out;
  for (const Linear* linear : {&gate, &up, both ? &*both : nullptr, &down})
    if (linear && !linear->weight.shape.empty()) out.push_back(linear);
  return out;
}

std::vector<const Tensor*> LayerWeights::without_experts() const {
  std::vector<const Tensor*> out;
  append(input_norm, out);
  if (delta) append(*delta, out);
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
  append(sinks, out);
  append(o, out);
  append(attention_norm, out);
  append(post_norm, out);
  if (mlp) append(*mlp, out);
  if (router) append(*router, out);
  append(choice_bias, out);
  if (shared) append(*shared, out);
  if (shared_gate) append(*shared_gate, out);
  append(output_norm, out);
  return out;
}

std::vector<const Tensor*> LayerWeights::all() const {
  std::vector<const Tensor*> out = without_experts();
  for (const Mlp& expert : experts) append(expert, out);
  return out;
}

std::string layer_prefix(const Config& config, int layer) {
  return fmt::format("{}layers.{}.",
                     config.dialect == Dialect::chatglm ? "transformer.encoder." : config.prefix, layer);
}

std::string attention_module(const Config& config, int layer) {
  return layer_prefix(config, layer) + (config.dialect == Dialect::chatglm ? "self_attention" : "self_attn");
}

LayerWeights layer_weights(const Checkpoint& model, int layer) {
  return find_layer(source(model), model.config(), layer);
}

OuterWeights outer_weights(const Checkpoint& model) {
  return find_outer(source(model), model.config());
}

namespace {

/// Whatever is asked for is there.
WeightSource any_source(std::vector<std::pair<std::string, std::vector<int64_t>>>& asked) {
  return {[&asked](const std::string& name, const std::vector<int64_t>& shape) {
            asked.emplace_back(name, shape);
            Tensor tensor;
            tensor.name = name;
            tensor.dtype = DType::bf16;
            tensor.shape = shape;
            return tensor;
          },
          [](const std::string&) { return nullptr; }};
}

}  // namespace

LayerWeights expected_layer(const Config& config, int layer) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> asked;
  return find_layer(any_source(asked), config, layer);
}

OuterWeights expected_outer(const Config& config) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> asked;
  return find_outer(any_source(asked), config);
}

std::vector<std::pair<std::string, std::vector<int64_t>>> expected_tensors(const Config& config) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> out;
  const WeightSource record = any_source(out);
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
