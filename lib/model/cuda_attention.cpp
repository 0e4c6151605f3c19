// The attention part of a layer on a GPU, of two kinds: grouped queries, and DeepSeek-V2's latent attention.
#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "kernels/forward/attention.h"
#include "kernels/forward/convert.h"
#include "kernels/forward/heads.h"
#include "model/attention_layer.h"
#include "model/cuda_decoder.h"
#include "model/latent_scale.h"

namespace blockgtq {

void CudaDecoder::attention(const ResidentLayer& layer, const Show& show, bool stop) {
  enter(layer.parcel, layer.base);
  if (layer.weights.delta) {
    delta_net(layer, stop);
  } else if (config().attention == AttentionKind::mla) {
    latent_attention(layer, show, stop);
  } else {
    grouped_query_attention(layer, show, stop);
  }
}

CudaDecoder::Watched CudaDecoder::projection(const ResidentLayer& layer, Word word, const char* name,
                                             const float* x, int64_t cols) const {
  return {word,
          x,
          run_.n_tokens,
          cols,
          attention_module(config(), layer.index) + "." + name,
          layer.weights.all()};
}

/// Checks the projections and the previous layer's output for non-finite numbers, calls `show`, and checks
/// again what `show` may have rewritten.
void CudaDecoder::check_and_show(const ResidentLayer& layer, const std::vector<Watched>& projected,
                                 const std::vector<Watched>& shown, const Show& show, LayerActivations acts,
                                 bool stop) {
  for (const Watched& w : projected) {
    watch(w);
    pending_.push_back(w);
  }
  require_finite(pending_);
  pending_.clear();
  if (!show) return;
  acts.layer = kv_layer(config(), layer.index);
  acts.n_tokens = run_.n_tokens;
  acts.stream = stream_.handle();
  show(acts);
  check(acts.recent.n.empty(), "no kernel attends to recent positions");
  if (stop) return;
  for (const Watched& w : shown) watch(w);
  require_finite(shown);
}

/// The input of the projections of tokens [first, first + n).
const void* CudaDecoder::attention_input(const LayerWeights& w, int64_t first, int64_t n) {
  const int64_t at = first * config().hidden;
  return input(w.input_norm, ws_.x + at, n, ws_.normed ? low(ws_.normed, at) : ws_.in);
}

/// Applies RoPE to x (T, heads, dim) as the layer does: with the model's frequencies, with those of sliding
/// layers, or not at all.
void CudaDecoder::turn(int layer, float* x, int64_t heads, int64_t dim) {
  const LayerAttention::Rotation rotation = config().layer_attention[size_t(layer)].rotation;
  if (rotation == LayerAttention::Rotation::none) return;
  cuda::rope(rotation == LayerAttention::Rotation::local ? local_rope_ : rope_, {x, heads * dim, dim},
             run_.n_tokens, heads, run_.chunk, stream_);
}

/// This layer of the sequence that the run continues; null: none.
Past::Layer* CudaDecoder::held(const ResidentLayer& layer) const {
  if (!past_) return nullptr;
  Past::Layer& held = past_->layers.at(size_t(kv_layer(config(), layer.index)));
  check(held.recent_k.empty() && held.recent_v.empty(), "no kernel attends to recent positions");
  return &held;
}

/// Copies what is held before the last T rows of `all` (P + T, cols), and appends these rows to it.
void CudaDecoder::join(std::vector<float>& held, float* all, int64_t cols) {
  const auto before = size_t(run_.past * cols), n = size_t(run_.n_tokens * cols);
  check(held.size() == before, "a past of other positions");
  if (before > 0) cuda::upload(all, held.data(), before * sizeof(float), stream_);
  held.resize(before + n);
  cuda::download(held.data() + before, all + before, n * sizeof(float), stream_);
}

/// Computes q (T, Hq, D), k (T, Hkv, D) and v (T, Hkv, Dv), and the queries' gates where there are any.
void CudaDecoder::project_heads(const LayerWeights& w) {
  const Config& c = config();
  const int64_t n = run_.n_tokens, heads = c.n_heads, dim = c.head_dim;
  const int64_t q_cols = heads * dim, k_cols = c.n_kv_heads * dim, v_cols = int64_t(c.n_kv_heads) * c.v_dim;
  for (int64_t first = 0; first < n; first += run_.slab()) {
    const int64_t count = std::min(run_.slab(), n - first);
    const void* in = attention_input(w, first, count);
    float* q = ws_.q + first * q_cols;
    linear(w.q, in, count, ws_.gate ? ws_.q_gate : q);
    if (ws_.gate) {
      cuda::copy_heads({ws_.q_gate, 2 * q_cols, 2 * dim}, {q, q_cols, dim}, count, heads, dim, stream_);
      cuda::copy_heads({ws_.q_gate + dim, 2 * q_cols, 2 * dim}, {ws_.gate + first * q_cols, q_cols, dim},
                       count, heads, dim, stream_);
    }
    linear(w.k, in, count, ws_.k + first * k_cols);
    linear(w.v, in, count, ws_.v + first * v_cols);
  }
  for (const auto& [weight, x, cols] : {std::tuple{&w.q_norm, ws_.q, q_cols}, {&w.k_norm, ws_.k, k_cols}}) {
    if (!*weight) continue;
    const int64_t width = (*weight)->elements();  // of one head, or of all heads
    cuda::Norm norm = prepare_norm(**weight, c.rms_eps, x, n * cols / width);
    norm.offset = float(c.norm_offset);
    norm.y = x;
    cuda::norm(norm, stream_);
  }
}

void CudaDecoder::grouped_query_attention(const ResidentLayer& layer, const Show& show, bool stop) {
  const Config& c = config();
  const LayerWeights& w = layer.weights;
  const int64_t n = run_.n_tokens, dim = c.head_dim, heads = c.n_heads, kv_heads = c.n_kv_heads;
  const int64_t q_cols = heads * dim, k_cols = kv_heads * dim, v_cols = kv_heads * c.v_dim;
  project_heads(w);
  const std::vector<Watched> watched = {projection(layer, kQ, "q", ws_.q, q_cols),
                                        projection(layer, kK, "k", ws_.k, k_cols),
                                        projection(layer, kV, "v", ws_.v, v_cols)};
  LayerActivations acts;
  acts.q = ws_.q;
  acts.k = ws_.k;
  acts.v = ws_.v;
  check_and_show(layer, watched, watched, show, acts, stop);
  if (stop) return;

  turn(layer.index, ws_.q, heads, dim);
  turn(layer.index, ws_.k, kv_heads, dim);
  if (Past::Layer* const past = held(layer)) {
    join(past->k, ws_.all_k, k_cols);
    join(past->v, ws_.all_v, v_cols);
  }
  cuda::AttentionProblem problem;
  problem.n_tokens = n;
  problem.chunk = run_.chunk;
  problem.past = run_.past;
  problem.n_heads = heads;
  problem.group = c.group();
  problem.scale = float(c.attention_scale);
  problem.dim = dim;
  problem.v_dim = c.v_dim;
  problem.q = {ws_.q, q_cols, dim};
  problem.k = {ws_.all_k, k_cols, dim};
  problem.v = {ws_.all_v, v_cols, c.v_dim};
  problem.window = c.layer_attention[size_t(layer.index)].window;
  problem.softcap = float(c.attention_softcap);
  if (ws_.gate) problem.gate = {ws_.gate, q_cols, dim};
  if (w.sinks) problem.sinks = floats(*w.sinks);
  problem.out = ws_.heads;
  problem.out_type = run_.type;
  cuda::attention(problem, stream_);
  add_output(w.o, w.attention_norm, ws_.heads, n, ws_.x);
}

/// Computes q (T, Hq, nope + rope) and joint (T, lora + rope).
void CudaDecoder::project_latent(const LayerWeights& w) {
  const MlaConfig& m = config().mla;
  const int64_t q_cols = config().n_heads * int64_t(m.nope_dim + m.rope_dim);
  for (int64_t first = 0; first < run_.n_tokens; first += run_.slab()) {
    const int64_t count = std::min(run_.slab(), run_.n_tokens - first);
    float* q = ws_.q + first * q_cols;
    const void* in = attention_input(w, first, count);
    linear(w.kv_a, in, count, ws_.joint + first * (m.kv_lora_rank + m.rope_dim));
    if (w.q_a_norm) {
      linear(w.q_a, in, count, ws_.q_low);
      cuda::Norm norm = prepare_norm(*w.q_a_norm, kLatentEps, ws_.q_low, count);
      norm.low = ws_.q_in;
      cuda::norm(norm, stream_);
      linear(w.q_b, ws_.q_in, count, q);
    } else {
      linear(w.q, in, count, q);
    }
  }
}

/// Expands the keys and values of some whole chunks, and of the past, from the latent. Every head's key ends
/// with the shared rotary part.
void CudaDecoder::expand_and_attend(const ResidentLayer& layer, int64_t first, int64_t n) {
  const Config& c = config();
  const MlaConfig& m = c.mla;
  const LayerWeights& w = layer.weights;
  const int64_t all = run_.past + n, lora = m.kv_lora_rank;
  const int64_t heads = c.n_heads, rope = m.rope_dim, key_dim = m.nope_dim + rope,
                kv_dim = m.nope_dim + m.v_dim;
  const int64_t joint_cols = lora + rope;
  cuda::Norm norm = prepare_norm(*w.kv_a_norm, kLatentEps, ws_.joint + first * joint_cols, n);
  norm.x_stride = joint_cols;
  norm.low = low(ws_.latent, run_.past * lora);
  if (ws_.all_latent) norm.y = ws_.all_latent + run_.past * lora;
  cuda::norm(norm, stream_);
  if (Past::Layer* const past = held(layer)) {  // there is one chunk then, so this is all of it
    join(past->k, ws_.all_k, rope);
    join(past->v, ws_.all_latent, lora);
    cuda::convert(ws_.all_latent, cuda::FloatType::f32, ws_.latent, run_.type, run_.past * lora, stream_);
  }
  linear(w.kv_b, ws_.latent, all, ws_.kv);
  cuda::copy_heads({ws_.kv, heads * kv_dim, kv_dim}, {ws_.key, heads * key_dim, key_dim}, all, heads,
                   m.nope_dim, stream_);
  cuda::copy_heads({ws_.all_k + first * rope, rope, 0}, {ws_.key + m.nope_dim, heads * key_dim, key_dim}, all,
                   heads, rope, stream_);

  cuda::AttentionProblem problem;
  problem.n_tokens = n;
  problem.chunk = run_.chunk;
  problem.past = run_.past;
  problem.n_heads = heads;
  problem.scale = latent_scale(c);
  problem.dim = key_dim;
  problem.v_dim = m.v_dim;
  problem.q = {ws_.q + first * heads * key_dim, heads * key_dim, key_dim};
  problem.k = {ws_.key, heads * key_dim, key_dim};
  problem.v = {ws_.kv + m.nope_dim, heads * kv_dim, kv_dim};
  problem.out = low(ws_.heads, first * heads * m.v_dim);
  problem.out_type = run_.type;
  cuda::attention(problem, stream_);
}

void CudaDecoder::latent_attention(const ResidentLayer& layer, const Show& show, bool stop) {
  const Config& c = config();
  const MlaConfig& m = c.mla;
  const LayerWeights& w = layer.weights;
  const int64_t n = run_.n_tokens, heads = c.n_heads, rope = m.rope_dim, key_dim = m.nope_dim + rope;
  const int64_t joint_cols = m.kv_lora_rank + rope;
  project_latent(w);
  cuda::copy_heads({ws_.q + m.nope_dim, heads * key_dim, key_dim}, {ws_.q_rope, heads * rope, rope}, n, heads,
                   rope, stream_);
  cuda::copy_heads({ws_.joint + m.kv_lora_rank, joint_cols, rope}, {ws_.k, rope, rope}, n, 1, rope, stream_);

  LayerActivations acts;
  acts.q = ws_.q_rope;
  acts.k = ws_.k;
  check_and_show(
      layer,
      {projection(layer, kQ, "q", ws_.q, heads * key_dim), projection(layer, kK, "k", ws_.joint, joint_cols)},
      {projection(layer, kQ, "q", ws_.q_rope, heads * rope), projection(layer, kK, "k", ws_.k, rope)}, show,
      acts, stop);
  if (stop) return;

  turn(layer.index, ws_.q_rope, heads, rope);
  turn(layer.index, ws_.k, 1, rope);
  cuda::copy_heads({ws_.q_rope, heads * rope, rope}, {ws_.q + m.nope_dim, heads * key_dim, key_dim}, n, heads,
                   rope, stream_);
  const int64_t slab = latent_slab(run_.chunk);
  for (int64_t first = 0; first < n; first += slab)
    expand_and_attend(layer, first, std::min(slab, n - first));
  add_output(w.o, w.attention_norm, ws_.heads, n, ws_.x);
}

}  // namespace blockgtq
