#include <fmt/format.h>

#include "base/stop.h"
#include "model/attention_layer.h"
#include "model/backend.h"
#include "model/mlp.h"
#include "model/nonfinite.h"
#include "model/output_layer.h"
#include "model/request.h"

namespace blockgtq {

namespace {

/// Prefetches a layer's weights. Experts are read only when tokens go to them.
void prefetch(const Checkpoint& model, const LayerWeights& weights) {
  for (const Tensor* tensor : weights.without_experts()) model.prefetch(*tensor);
}

class CpuBackend : public Backend {
 public:
  void forward(const Checkpoint& model, const ForwardRequest& request) override;
};

void CpuBackend::forward(const Checkpoint& model, const ForwardRequest& request) {
  check_request(model, request);
  const Config& c = model.config();
  const OuterWeights outer = outer_weights(model);
  DecoderState state;
  state.n_tokens = int64_t(request.tokens.size());
  state.chunk = chunk_tokens(request);
  state.past = request.past;
  if (state.past) state.past->layers.resize(c.kv_layers().size());
  const int64_t positions = state.past ? state.past->context : state.chunk;
  state.rotary = rotary_table(c, positions);
  if (c.local_rope) state.local_rotary = rotary_table(c, positions, true);
  state.x.resize(size_t(state.n_tokens * c.hidden));
  state.scratch.resize(state.x.size());
  const int first = request.start ? request.start->layer : 0;
  if (request.start)
    state.x = request.start->x;
  else
    embed(model, outer.embedding, request.tokens, state.x.data());

  if (request.progress) request.progress->begin("forward", c.n_layers - first);
  LayerWeights next = layer_weights(model, first);
  prefetch(model, next);
  for (int layer = first; layer < c.n_layers; ++layer) {
    if (request.on_boundary && layer > first)
      request.on_boundary(layer, [&] { return std::span<const float>(state.x); });
    check_stop();
    const LayerWeights weights = std::move(next);
    const bool last = layer + 1 == c.n_layers;
    if (!last) {
      next = layer_weights(model, layer + 1);
      prefetch(model, next);
    }
    const bool stop = last && !request.on_logits;
    attention_layer(model, weights, layer, request.on_layer, stop, state);
    if (!stop) {
      const bool parallel = c.norm_place == NormPlace::parallel;
      feed_forward(model, weights, state.x.data(), state.n_tokens, parallel ? state.normed.data() : nullptr);
      require_finite(model, state.x.data(), state.n_tokens, c.hidden, fmt::format("layer {}: output", layer),
                     weights.all());
    }
    for (const Tensor* tensor : weights.all()) model.release(*tensor);
    if (request.progress) request.progress->step(fmt::format("layer {}", layer));
  }
  if (request.on_logits)
    output_layer(model, outer, state.x.data() + request.logits_from * c.hidden,
                 state.n_tokens - request.logits_from, state.chunk,
                 [&](int64_t first, int64_t n, const float* logits) {
                   request.on_logits(request.logits_from + first, n, logits);
                 });
  if (state.past) state.past->n += state.n_tokens;
  if (request.progress) request.progress->end();
}

}  // namespace

std::unique_ptr<Backend> make_cpu_backend() {
  return std::make_unique<CpuBackend>();
}

}  // namespace blockgtq
