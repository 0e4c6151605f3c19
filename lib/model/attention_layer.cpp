// The attention part of a layer, of two kinds: grouped queries, and DeepSeek-V2's latent attention.
#include "model/attention_layer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "model/attention.h"
#include "model/delta_net.h"
#include "model/elementwise.h"
#include "model/latent_scale.h"
#include "model/matmul.h"
#include "model/nonfinite.h"
#include "model/norm.h"
#include "model/share.h"

namespace blockgtq {

namespace {

struct Block {
  const Checkpoint& model;
  const LayerWeights& weights;
  int layer;
  const std::function<void(LayerActivations&)>& show;
  bool stop;
  DecoderState& state;

  const Config& config() const { return model.config(); }
  int64_t n() const { return state.n_tokens; }

  std::vector<float> project(const Linear& w, const float* in) const {
    std::vector<float> out(size_t(n() * w.rows()));
    linear(model, w, in, n(), out.data());
    return out;
  }
  /// Calls `show` for the layer. Returns the recent positions that it set.
  RecentPositions shown(LayerActivations& acts) const {
    acts.layer = kv_layer(config(), layer);
    acts.n_tokens = n();
    show(acts);
    const RecentPositions& r = acts.recent;
    const auto n_chunks = size_t((n() + state.chunk - 1) / state.chunk);
    check(r.n.empty() ? r.k.empty() && r.v.empty() : r.n.size() == n_chunks,
          "recent positions of another number of chunks");
    return std::move(acts.recent);
  }
  /// Checks a projection (T, cols), where there is one, for non-finite numbers: before `show` gets it, and
  /// again afterwards, because `show` may rewrite it.
  void require(const std::vector<float>& x, const char* name) const {
    if (x.empty()) return;
    require_finite(model, x.data(), n(), int64_t(x.size()) / n(),
                   attention_module(config(), layer) + "." + name, weights.all());
  }
  /// state.x += o(heads), heads (T, Hq * Dv)
  void add_output(const float* heads) const {
    linear(model, weights.o, heads, n(), state.scratch.data());
    add_scratch();
  }
  void add_scratch() const {
    float* y = state.scratch.data();
    if (weights.attention_norm) apply_norm(config(), *weights.attention_norm, y, n(), y);
    add_to(state.x.data(), y, n() * config().hidden, float(config().residual_multiplier));
  }
  /// Applies RoPE as the layer does: with the model's frequencies, with those of sliding layers, or not at
  /// all.
  void turn(std::vector<float>& x, int64_t heads, int64_t dim) const {
    const LayerAttention::Rotation rotation = config().layer_attention[size_t(layer)].rotation;
    if (rotation == LayerAttention::Rotation::none) return;
    const RotaryTable& table =
        rotation == LayerAttention::Rotation::local ? *state.local_rotary : state.rotary;
    const int64_t first = state.past ? state.past->n : 0;
    if (!x.empty()) rotate(table, x.data(), n(), heads * dim, heads, dim, state.chunk, first);
  }
  /// This layer of the sequence that the run continues; null: none.
  Past::Layer* past() const {
    return state.past ? &state.past->layers.at(size_t(kv_layer(config(), layer))) : nullptr;
  }
};

/// Appends `more` to the past, and returns all of it.
const float* behind(std::vector<float>& past, const std::vector<float>& more) {
  past.insert(past.end(), more.begin(), more.end());
  return past.data();
}

/// Stores what queries see of their most recent positions: `recent`, or else `x`, which is what the cache
/// decodes. It is stored apart from the past only from the first difference on.
void keep_recent(std::vector<float>& past, const std::vector<float>& past_x, const std::vector<float>& recent,
                 const std::vector<float>& x) {
  if (recent.empty() && past.empty()) return;
  if (past.empty()) past = past_x;
  behind(past, recent.empty() ? x : recent);
}

/// RMSNorm over each head of x (T, heads, D), or over all of them together.
void norm_heads(const Config& c, const std::optional<Tensor>& weight, std::vector<float>& x) {
  if (!weight) return;
  const int64_t dim = weight->elements();
  rms_norm(*weight, c.rms_eps, x.data(), dim, int64_t(x.size()) / dim, x.data(), dim, c.norm_offset);
}

/// Copies the first `width` values of rows that are from_stride apart to rows to_stride apart.
void copy_columns(const float* from, int64_t from_stride, float* to, int64_t to_stride, int64_t width,
                  int64_t rows) {
  constexpr int64_t kRows = 1024;
  share(size_t((rows + kRows - 1) / kRows), double(rows * width), [&](size_t piece) {
    for (int64_t r = int64_t(piece) * kRows; r < std::min(rows, (int64_t(piece) + 1) * kRows); ++r)
      std::copy_n(from + r * from_stride, width, to + r * to_stride);
  });
}

/// Splits q (T, Hq, 2 D): the first half of every head stays, the second half is returned.
std::vector<float> take_gate(std::vector<float>& q, int64_t rows, int64_t dim) {
  std::vector<float> first(size_t(rows * dim)), second(size_t(rows * dim));
  copy_columns(q.data(), 2 * dim, first.data(), dim, dim, rows);
  copy_columns(q.data() + dim, 2 * dim, second.data(), dim, dim, rows);
  q = std::move(first);
  return second;
}

void grouped_query_attention(const Block& b) {
  const Config& c = b.config();
  const int64_t n = b.n(), dim = c.head_dim, q_cols = c.n_heads * dim, k_cols = c.n_kv_heads * dim;
  const float* in = b.state.scratch.data();
  std::vector<float> q = b.project(b.weights.q, in);  // (T, Hq, D)
  std::vector<float> k = b.project(b.weights.k, in);  // (T, Hkv, D)
  std::vector<float> v = b.project(b.weights.v, in);  // (T, Hkv, Dv)
  std::vector<float> gate;                            // (T, Hq, D)
  if (c.gated_output) gate = take_gate(q, n * c.n_heads, dim);
  norm_heads(c, b.weights.q_norm, q);
  norm_heads(c, b.weights.k_norm, k);
  b.require(q, "q");
  b.require(k, "k");
  b.require(v, "v");

  RecentPositions recent;
  if (b.show) {
    LayerActivations acts;
    acts.q = q.data();
    acts.k = k.data();
    acts.v = v.data();
    recent = b.shown(acts);
  }
  if (b.stop) return;
  b.require(q, "q");
  for (std::vector<float>* x : {&k, &recent.k}) {
    b.require(*x, "k");
    b.turn(*x, c.n_kv_heads, dim);
  }
  for (const std::vector<float>* x : {&v, &recent.v}) b.require(*x, "v");
  b.turn(q, c.n_heads, dim);
  std::vector<float> sinks;
  if (b.weights.sinks) {
    sinks.resize(size_t(c.n_heads));
    b.weights.sinks->read(0, c.n_heads, sinks.data());
  }
  AttentionProblem problem;
  problem.n_tokens = n;
  problem.chunk = b.state.chunk;
  problem.n_heads = c.n_heads;
  problem.group = c.group();
  problem.scale = float(c.attention_scale);
  problem.window = c.layer_attention[size_t(b.layer)].window;
  problem.softcap = c.attention_softcap;
  problem.sinks = sinks.empty() ? nullptr : sinks.data();
  problem.q = {q.data(), q_cols, dim, dim};
  problem.k = {k.data(), k_cols, dim, dim};
  problem.v = {v.data(), int64_t(c.n_kv_heads) * c.v_dim, c.v_dim, c.v_dim};
  if (!recent.n.empty()) problem.recent = recent.n.data();
  problem.recent_k = problem.k;
  problem.recent_v = problem.v;
  if (!recent.k.empty()) problem.recent_k.data = recent.k.data();
  if (!recent.v.empty()) problem.recent_v.data = recent.v.data();
  if (Past::Layer* past = b.past()) {
    keep_recent(past->recent_k, past->k, recent.k, k);
    keep_recent(past->recent_v, past->v, recent.v, v);
    problem.past = b.state.past->n;
    problem.k.data = behind(past->k, k);
    problem.v.data = behind(past->v, v);
    problem.recent_k.data = past->recent_k.empty() ? past->k.data() : past->recent_k.data();
    problem.recent_v.data = past->recent_v.empty() ? past->v.data() : past->recent_v.data();
  }
  std::vector<float> heads(size_t(n * c.n_heads * c.v_dim));
  attention(problem, heads.data());
  if (c.gated_output) times_sigmoid(heads.data(), gate.data(), int64_t(heads.size()));
  b.add_output(heads.data());
}

/// What latent attention reads, for all tokens.
struct Latent {
  std::vector<float> q;    // (T, Hq, nope + rope)
  std::vector<float> low;  // (T, lora), normed
  std::vector<float> k;    // (T, rope), the rotary part that all heads share
  RecentPositions recent;  // k (T, rope)
};

/// The keys of all heads, (n, Hq, nope + rope): each head's own part from kv (n, Hq, nope + v), then the
/// shared rotary part.
std::vector<float> latent_keys(const Config& c, const std::vector<float>& kv, const float* k_rope,
                               int64_t n) {
  const MlaConfig& m = c.mla;
  const int64_t key_dim = m.nope_dim + m.rope_dim;
  std::vector<float> key(size_t(n * c.n_heads * key_dim));
  copy_columns(kv.data(), m.nope_dim + m.v_dim, key.data(), key_dim, m.nope_dim, n * c.n_heads);
  for (int64_t h = 0; h < c.n_heads; ++h)
    copy_columns(k_rope, m.rope_dim, key.data() + h * key_dim + m.nope_dim, c.n_heads * key_dim, m.rope_dim,
                 n);
  return key;
}

/// Expands the keys and values of whole chunks, tokens [first, first + n), from the latent, and attends. Past
/// tokens lie before them; x has these, q has not.
void expand_and_attend(const Block& b, const Latent& x, int64_t first, int64_t n_queries, float* heads,
                       int64_t past = 0) {
  const int64_t n = past + n_queries;
  const Config& c = b.config();
  const MlaConfig& m = c.mla;
  const int64_t key_dim = m.nope_dim + m.rope_dim, kv_dim = m.nope_dim + m.v_dim;
  std::vector<float> kv(size_t(n * c.n_heads * kv_dim));  // (n, Hq, nope + v)
  linear(b.model, b.weights.kv_b, x.low.data() + first * m.kv_lora_rank, n, kv.data());
  const std::vector<float> key = latent_keys(c, kv, x.k.data() + first * m.rope_dim, n);
  std::vector<float> recent_key;

  AttentionProblem problem;
  problem.n_tokens = n_queries;
  problem.chunk = b.state.chunk;
  problem.past = past;
  problem.n_heads = c.n_heads;
  problem.scale = latent_scale(c);
  problem.q = {x.q.data() + first * c.n_heads * key_dim, c.n_heads * key_dim, key_dim, key_dim};
  problem.k = {key.data(), c.n_heads * key_dim, key_dim, key_dim};
  problem.v = {kv.data() + m.nope_dim, c.n_heads * kv_dim, kv_dim, m.v_dim};
  if (!x.recent.k.empty()) {
    recent_key = latent_keys(c, kv, x.recent.k.data() + first * m.rope_dim, n);
    problem.recent = x.recent.n.data() + first / problem.chunk;
    problem.recent_k = {recent_key.data(), c.n_heads * key_dim, key_dim, key_dim};
    problem.recent_v = problem.v;
  }
  attention(problem, heads + first * c.n_heads * m.v_dim);
}

void latent_attention(const Block& b) {
  const Config& c = b.config();
  const MlaConfig& m = c.mla;
  const LayerWeights& w = b.weights;
  const int64_t n = b.n(), key_dim = m.nope_dim + m.rope_dim, rope = m.rope_dim;
  const float* in = b.state.scratch.data();

  Latent x;
  if (w.q_a_norm) {
    std::vector<float> low = b.project(w.q_a, in);
    rms_norm(*w.q_a_norm, kLatentEps, low.data(), m.q_lora_rank, n, low.data(), m.q_lora_rank);
    x.q = b.project(w.q_b, low.data());
  } else {
    x.q = b.project(w.q, in);
  }
  const std::vector<float> joint = b.project(w.kv_a, in);  // (T, lora + rope)
  b.require(x.q, "q");
  b.require(joint, "k");
  std::vector<float> q_rope(size_t(n * c.n_heads * rope));  // (T, Hq, rope)
  x.k.resize(size_t(n * rope));
  copy_columns(x.q.data() + m.nope_dim, key_dim, q_rope.data(), rope, rope, n * c.n_heads);
  copy_columns(joint.data() + m.kv_lora_rank, m.kv_lora_rank + rope, x.k.data(), rope, rope, n);

  if (b.show) {
    LayerActivations acts;
    acts.q = q_rope.data();
    acts.k = x.k.data();
    x.recent = b.shown(acts);
  }
  if (b.stop) return;
  b.require(q_rope, "q");
  for (std::vector<float>* k : {&x.k, &x.recent.k}) {
    b.require(*k, "k");
    b.turn(*k, 1, rope);
  }
  b.turn(q_rope, c.n_heads, rope);
  copy_columns(q_rope.data(), rope, x.q.data() + m.nope_dim, key_dim, rope, n * c.n_heads);
  x.low.resize(size_t(n * m.kv_lora_rank));
  rms_norm(*w.kv_a_norm, kLatentEps, joint.data(), m.kv_lora_rank + rope, n, x.low.data(), m.kv_lora_rank);

  std::vector<float> heads(size_t(n * c.n_heads * m.v_dim));  // (T, Hq, v)
  if (Past::Layer* past = b.past()) {
    keep_recent(past->recent_k, past->k, x.recent.k, x.k);
    behind(past->k, x.k), behind(past->v, x.low);
    x.k = past->k, x.low = past->v, x.recent.k = past->recent_k;
    expand_and_attend(b, x, 0, n, heads.data(), b.state.past->n);
    return b.add_output(heads.data());
  }
  const int64_t slab = latent_slab(b.state.chunk);
  for (int64_t t = 0; t < n; t += slab) expand_and_attend(b, x, t, std::min(slab, n - t), heads.data());
  b.add_output(heads.data());
}

}  // namespace

int kv_layer(const Config& config, int layer) {
  const auto& all = config.layer_attention;
  return int(std::count_if(all.begin(), all.begin() + layer, [](const auto& l) { return !l.delta; }));
}

int64_t latent_slab(int64_t chunk) {
  return chunk * std::max<int64_t>(1, kLatentSlabTokens / chunk);
}

void attention_layer(const Checkpoint& model, const LayerWeights& weights, int layer,
                     const std::function<void(LayerActivations&)>& show, bool stop, DecoderState& state) {
  const Config& c = model.config();
  if (weights.input_norm) {
    apply_norm(c, *weights.input_norm, state.x.data(), state.n_tokens, state.scratch.data());
  } else {
    state.scratch = state.x;
  }
  if (c.norm_place == NormPlace::parallel) state.normed = state.scratch;
  const Block block{model, weights, layer, show, stop, state};
  if (weights.delta) {
    if (stop) return;
    delta_net(model, *weights.delta, state.scratch.data(), state.n_tokens, state.chunk, state.scratch.data());
    block.add_scratch();
  } else if (c.attention == AttentionKind::mla) {
    latent_attention(block);
  } else {
    grouped_query_attention(block);
  }
}

}  // namespace blockgtq
