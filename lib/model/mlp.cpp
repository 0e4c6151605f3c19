#include "model/mlp.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "model/elementwise.h"
#include "model/matmul.h"
#include "model/moe.h"
#include "model/nonfinite.h"
#include "model/norm.h"
#include "model/share.h"

namespace blockgtq {

namespace {

/// Buffers of one slab, reused for the next.
struct Slab {
  std::vector<float> in;        // (n, hidden)
  std::vector<float> gate, up;  // (n, intermediate)
  std::vector<float> both;      // (n, 2 intermediate)
  std::vector<float> out;       // (n, hidden)
};

float* room(std::vector<float>& buffer, int64_t n) {
  if (buffer.size() < size_t(n)) buffer.resize(size_t(n));
  return buffer.data();
}

/// gate (n, width) = act(gate) up. Where up is null the factor is 1.
void activate(const Config& c, float* gate, const float* up, int64_t n) {
  switch (c.activation) {
    case Activation::silu:
      silu_times(gate, up, n);
      break;
    case Activation::gelu_tanh:
      gelu_tanh_times(gate, up, n);
      break;
    case Activation::clamped:
      clamped_swiglu(gate, up, c.swiglu_limit, c.swiglu_alpha, n);
      break;
  }
}

/// Splits both (n, 2 width) into gate and up (n, width).
void take_apart(const float* both, bool interleaved, int64_t n, int64_t width, float* gate, float* up) {
  const int64_t step = interleaved ? 2 : 1, apart = interleaved ? 1 : width;
  for (int64_t t = 0; t < n; ++t)
    for (int64_t i = 0; i < width; ++i) {
      gate[t * width + i] = both[t * 2 * width + i * step];
      up[t * width + i] = both[t * 2 * width + i * step + apart];
    }
}

/// slab.out (n, hidden) = down(act(gate(in)) * up(in)), n <= kSlabTokens
float* apply(const Checkpoint& model, const Mlp& mlp, const float* in, int64_t n, Slab& slab) {
  const int64_t width = mlp.width();
  float* gate = room(slab.gate, n * width);
  float* up = room(slab.up, n * width);
  float* out = room(slab.out, n * mlp.down.rows());
  if (mlp.both) {
    float* both = room(slab.both, n * 2 * width);
    linear(model, *mlp.both, in, n, both);
    take_apart(both, mlp.interleaved, n, width, gate, up);
  } else if (mlp.gate.weight.shape.empty()) {
    linear(model, mlp.up, in, n, gate);
    up = nullptr;
  } else {
    linear(model, mlp.gate, in, n, gate);
    linear(model, mlp.up, in, n, up);
  }
  activate(model.config(), gate, up, n * width);
  linear(model, mlp.down, gate, n, out);
  return out;
}

/// x += apply() of all n tokens of in: times the sigmoid of the layer's `gate`, or after its `norm`, where
/// there is one.
void add_mlp(const Checkpoint& model, const Mlp& mlp, const std::optional<Linear>& gate,
             const std::optional<Norm>& norm, const float* in, int64_t n, float* x, Slab& slab) {
  const Config& c = model.config();
  const int64_t hidden = mlp.down.rows();
  std::vector<float> open;
  for (int64_t first = 0; first < n; first += kSlabTokens) {
    const int64_t count = std::min(kSlabTokens, n - first);
    float* out = apply(model, mlp, in + first * hidden, count, slab);
    if (norm) apply_norm(c, *norm, out, count, out);
    if (gate) {
      linear(model, *gate, in + first * hidden, count, room(open, count));
      for (int64_t t = 0; t < count; ++t) {
        const float share = 1.0f / (1.0f + std::exp(-open[size_t(t)]));
        for (int64_t i = 0; i < hidden; ++i) out[t * hidden + i] *= share;
      }
    }
    add_to(x + first * hidden, out, count * hidden, float(c.residual_multiplier));
  }
}

void prefetch(const Checkpoint& model, const Mlp& mlp) {
  for (const Linear* l : mlp.parts()) model.prefetch(l->weight);
}

/// One token at one of its experts.
struct Visit {
  int64_t token;
  float weight;
};

/// Every expert computes its tokens together. So its weights are read once, and not at all without tokens.
void add_experts(const Checkpoint& model, const LayerWeights& layer, const float* in, int64_t n, float* x,
                 Slab& slab) {
  const MoeConfig& moe = model.config().moe;
  const int64_t hidden = model.config().hidden;
  std::vector<float> logits(size_t(n) * size_t(moe.n_experts));
  linear(model, *layer.router, in, n, logits.data());
  require_finite(model, logits.data(), n, moe.n_experts, layer.router->weight.name, layer.all());
  std::vector<float> bias;
  if (layer.choice_bias) {
    bias.resize(size_t(moe.n_experts));
    layer.choice_bias->read(0, moe.n_experts, bias.data());
  }
  const Routing routing = route(moe, logits.data(), n, bias);
  const float scale = float(model.config().residual_multiplier);

  std::vector<std::vector<Visit>> visits(layer.experts.size());
  for (int64_t i = 0; i < int64_t(routing.expert.size()); ++i)
    visits[size_t(routing.expert[size_t(i)])].push_back({i / moe.n_per_token, routing.weight[size_t(i)]});
  for (size_t e = 0; e < visits.size(); ++e)
    if (!visits[e].empty()) prefetch(model, layer.experts[e]);

  for (size_t e = 0; e < visits.size(); ++e) {
    for (size_t first = 0; first < visits[e].size(); first += size_t(kSlabTokens)) {
      const size_t count = std::min(size_t(kSlabTokens), visits[e].size() - first);
      const Visit* slice = visits[e].data() + first;
      float* gathered = room(slab.in, int64_t(count) * hidden);
      for (size_t i = 0; i < count; ++i)
        std::copy_n(in + slice[i].token * hidden, hidden, gathered + int64_t(i) * hidden);
      const float* out = apply(model, layer.experts[e], gathered, int64_t(count), slab);
      share(count, double(count) * double(hidden), [&](size_t i) {
        float* to = x + slice[i].token * hidden;
        const float weight = scale * slice[i].weight;
        for (int64_t j = 0; j < hidden; ++j) to[j] += weight * out[int64_t(i) * hidden + j];
      });
    }
  }
}

}  // namespace

void feed_forward(const Checkpoint& model, const LayerWeights& layer, float* x, int64_t n,
                  const float* given) {
  const Config& c = model.config();
  const int64_t hidden = c.hidden;
  Slab slab;
  std::vector<float> normed;
  /// The input of tokens [first, first + count).
  const auto input = [&](int64_t first, int64_t count) -> const float* {
    if (given) return given + first * hidden;
    if (!layer.post_norm) return x + first * hidden;
    float* in = room(normed, count * hidden);
    apply_norm(c, *layer.post_norm, x + first * hidden, count, in);
    return in;
  };
  if (layer.mlp) {
    for (int64_t first = 0; first < n; first += kSlabTokens) {
      const int64_t count = std::min(kSlabTokens, n - first);
      add_mlp(model, *layer.mlp, std::nullopt, layer.output_norm, input(first, count), count,
              x + first * hidden, slab);
    }
    return;
  }
  check(layer.post_norm && !layer.output_norm, "experts: normed before, not after");
  // The tokens of an expert are spread over the text, so the norm of all tokens is needed at once.
  const float* in = input(0, n);
  add_experts(model, layer, in, n, x, slab);
  if (layer.shared) add_mlp(model, *layer.shared, layer.shared_gate, std::nullopt, in, n, x, slab);
}

}  // namespace blockgtq
