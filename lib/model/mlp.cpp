#include "model/mlp.h"

#include <algorithm>
#include <vector>

#include "model/elementwise.h"
#include "model/matmul.h"
#include "model/moe.h"
#include "model/nonfinite.h"
#include "model/share.h"

namespace blockgtq {

namespace {

/// Buffers of one slab, kept from one to the next.
struct Slab {
  std::vector<float> in;        // (n, hidden)
  std::vector<float> gate, up;  // (n, intermediate)
  std::vector<float> out;       // (n, hidden)
};

float* room(std::vector<float>& buffer, int64_t n) {
  if (buffer.size() < size_t(n)) buffer.resize(size_t(n));
  return buffer.data();
}

/// slab.out (n, hidden) = down(silu(gate(in)) * up(in)), n <= kSlabTokens
const float* apply(const Checkpoint& model, const Mlp& mlp, const float* in, int64_t n, Slab& slab) {
  const int64_t width = mlp.gate.rows();
  float* gate = room(slab.gate, n * width);
  float* up = room(slab.up, n * width);
  float* out = room(slab.out, n * mlp.down.rows());
  linear(model, mlp.gate, in, n, gate);
  linear(model, mlp.up, in, n, up);
  silu_times(gate, up, n * width);
  linear(model, mlp.down, gate, n, out);
  return out;
}

/// apply() on all n tokens of in, added to x.
void add_mlp(const Checkpoint& model, const Mlp& mlp, const float* in, int64_t n, float* x, Slab& slab) {
  const int64_t hidden = mlp.down.rows();
  for (int64_t first = 0; first < n; first += kSlabTokens) {
    const int64_t count = std::min(kSlabTokens, n - first);
    add_to(x + first * hidden, apply(model, mlp, in + first * hidden, count, slab), count * hidden);
  }
}

void prefetch(const Checkpoint& model, const Mlp& mlp) {
  for (const Linear* l : {&mlp.gate, &mlp.up, &mlp.down}) model.prefetch(l->weight);
}

/// One place where a token meets an expert.
struct Visit {
  int64_t token;
  float weight;
};

/// Every expert sees its tokens together, so that its weights are read once, and not at all without any.
void add_experts(const Checkpoint& model, const LayerWeights& layer, const float* in, int64_t n, float* x,
                 Slab& slab) {
  const MoeConfig& moe = model.config().moe;
  const int64_t hidden = model.config().hidden;
  std::vector<float> logits(size_t(n) * size_t(moe.n_experts));
  linear(model, *layer.router, in, n, logits.data());
  require_finite(model, logits.data(), n, moe.n_experts, layer.router->weight.name, layer.all());
  const Routing routing = route(moe, logits.data(), n);

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
        for (int64_t j = 0; j < hidden; ++j) to[j] += slice[i].weight * out[int64_t(i) * hidden + j];
      });
    }
  }
}

}  // namespace

void feed_forward(const Checkpoint& model, const LayerWeights& layer, float* x, int64_t n) {
  const int64_t hidden = model.config().hidden;
  const double eps = model.config().rms_eps;
  Slab slab;
  std::vector<float> normed;
  if (layer.mlp) {
    for (int64_t first = 0; first < n; first += kSlabTokens) {
      const int64_t count = std::min(kSlabTokens, n - first);
      float* in = room(normed, count * hidden);
      rms_norm(layer.post_norm, eps, x + first * hidden, hidden, count, in, hidden);
      add_mlp(model, *layer.mlp, in, count, x + first * hidden, slab);
    }
    return;
  }
  // An expert's tokens come from everywhere: the norm of all of them is needed at once.
  float* in = room(normed, n * hidden);
  rms_norm(layer.post_norm, eps, x, hidden, n, in, hidden);
  add_experts(model, layer, in, n, x, slab);
  if (layer.shared) add_mlp(model, *layer.shared, in, n, x, slab);
}

}  // namespace blockgtq
