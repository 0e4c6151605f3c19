#include "serve/simulated_sequence.h"

#include <algorithm>
#include <cmath>

#include "base/stop.h"
#include "model/past.h"

namespace blockgtq {
namespace {

constexpr int64_t kPassTokens = 512;  // of a prompt in one forward pass

class SimulatedSequence final : public Sequence {
 public:
  SimulatedSequence(const Checkpoint& model, const QuantizedCache& cache, int64_t context)
      : model_(model), cache_(cache), backend_(make_cpu_backend()) {
    past_.context = context;
  }

  std::span<const float> append(std::span<const int32_t> tokens) override {
    for (size_t t = 0; t < tokens.size(); t += kPassTokens)
      pass(tokens.subspan(t, std::min<size_t>(kPassTokens, tokens.size() - t)));
    return logits_;
  }
  PlainPositions held(int layer) const override {
    const Past::Layer& all = past_.layers.at(size_t(layer));
    return {model_.config().n_kv_heads,
            model_.config().head_dim,
            {all.k.begin(), all.k.end()},
            {all.v.begin(), all.v.end()}};
  }
  int64_t cache_bytes() const override {
    const double exact = 4.0 * exact_numbers_;
    return std::llround((cache_.key_bytes(past_.n) + cache_.value_bytes(past_.n)) * double(past_.n) + exact);
  }
  int64_t clipped() const override { return clipped_; }

 private:
  void pass(std::span<const int32_t> tokens) {
    check_stop();
    ForwardRequest request;
    request.tokens = tokens;
    request.chunk = 0;
    request.past = &past_;
    request.on_layer = [&](LayerActivations& acts) { hold(acts); };
    request.logits_from = int64_t(tokens.size()) - 1;
    request.on_logits = [&](int64_t, int64_t, const float* logits) {
      logits_.assign(logits, logits + model_.config().vocab);
    };
    backend_->forward(model_, request);
    exact_numbers_ = 0;
    for (const Past::Layer& layer : past_.layers)
      exact_numbers_ += double(cache_.keys.empty() ? layer.k.size() : 0) +
                        double(cache_.values.empty() ? layer.v.size() : 0);
  }

  /// Puts what the cache gives back in the place of a layer's new keys and values; those of the sink stay,
  /// and queries see their last ones as they are.
  void hold(LayerActivations& acts) {
    const auto layer = size_t(acts.layer);
    const int64_t n = acts.n_tokens, first = std::clamp<int64_t>(cache_.exact.sink - past_.n, 0, n);
    const bool recent = cache_.exact.recent > 0;
    if (recent) acts.recent.n = {cache_.exact.recent};
    auto add = [&](const std::vector<HeadQuantizers>& heads, float* x, std::vector<float>& exact) {
      if (heads.empty()) return;
      CodedTokens coded{&heads[layer], x, n - first};
      if (recent) exact.assign(x, x + n * coded.width());
      coded.x += first * coded.width();
      clipped_ += requantize(acts.layer, {&coded, 1});
    };
    add(cache_.keys, acts.k, acts.recent.k);
    add(cache_.values, acts.v, acts.recent.v);
  }

  const Checkpoint& model_;
  const QuantizedCache& cache_;
  const std::unique_ptr<Backend> backend_;
  Past past_;
  std::vector<float> logits_;
  int64_t clipped_ = 0;
  double exact_numbers_ = 0;  // float32 of sides that are not quantized
};

}  // namespace

std::unique_ptr<Sequence> make_simulated_sequence(const Checkpoint& model, const QuantizedCache& cache,
                                                  int64_t context) {
  return std::make_unique<SimulatedSequence>(model, cache, context);
}

}  // namespace blockgtq
