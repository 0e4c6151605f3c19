#include "serve/past_sequence.h"

#include "base/stop.h"

namespace blockgtq {

PastSequence::PastSequence(const Checkpoint& model, std::shared_ptr<Backend> backend, int64_t context)
    : model_(model), backend_(std::move(backend)) {
  past_.context = context;
}

PlainPositions PastSequence::held(int layer) const {
  const Past::Layer& all = past_.layers.at(size_t(layer));
  return {model_.config().n_kv_heads,
          model_.config().head_dim,
          {all.k.begin(), all.k.end()},
          {all.v.begin(), all.v.end()}};
}

int64_t PastSequence::exact_bytes(std::vector<float> Past::Layer::*side) const {
  int64_t sum = 0;
  for (const Past::Layer& layer : past_.layers) sum += int64_t((layer.*side).size() * sizeof(float));
  return sum;
}

void PastSequence::pass(std::span<const int32_t> tokens,
                        const std::function<void(LayerActivations&)>& on_layer) {
  check_stop();
  ForwardRequest request;
  request.tokens = tokens;
  request.chunk = 0;
  request.past = &past_;
  request.on_layer = on_layer;
  request.logits_from = int64_t(tokens.size()) - 1;
  request.on_logits = [&](int64_t, int64_t, const float* logits) {
    logits_.assign(logits, logits + model_.config().vocab);
  };
  backend_->forward(model_, request);
}

}  // namespace blockgtq
