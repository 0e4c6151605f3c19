#include "serve/past_sequence.h"

#include "base/stop.h"

namespace blockgtq {

PastSequence::PastSequence(const Checkpoint& model, int64_t context)
    : model_(model), backend_(make_cpu_backend()) {
  past_.context = context;
}

PlainPositions PastSequence::held(int layer) const {
  const Past::Layer& all = past_.layers.at(size_t(layer));
  return {model_.config().n_kv_heads,
          model_.config().head_dim,
          {all.k.begin(), all.k.end()},
          {all.v.begin(), all.v.end()}};
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
