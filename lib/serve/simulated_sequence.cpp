#include "serve/simulated_sequence.h"

#include <algorithm>
#include <cmath>

#include "serve/past_sequence.h"

namespace blockgtq {
namespace {

constexpr int64_t kPassTokens = 512;  // tokens of a prompt in one forward pass

class SimulatedSequence final : public PastSequence {
 public:
  SimulatedSequence(const Checkpoint& model, const QuantizedCache& cache, int64_t context)
      : PastSequence(model, make_cpu_backend(), context), cache_(cache) {}

  std::span<const float> append(std::span<const int32_t> tokens) override {
    for (size_t t = 0; t < tokens.size(); t += kPassTokens)
      pass(tokens.subspan(t, std::min<size_t>(kPassTokens, tokens.size() - t)),
           [&](LayerActivations& acts) { hold(acts); });
    return logits_;
  }
  int64_t cache_bytes() const override {
    const int64_t exact = (cache_.keys.empty() ? exact_bytes(&Past::Layer::k) : 0) +
                          (cache_.values.empty() ? exact_bytes(&Past::Layer::v) : 0);
    const double coded = (cache_.key_bytes(past_.n) + cache_.value_bytes(past_.n)) * double(past_.n);
    return exact + std::llround(coded);
  }
  int64_t clipped() const override { return clipped_; }

 private:
  /// Replaces a layer's new keys and values by what the cache decodes. Those of the sink stay exact, and
  /// queries see their most recent positions exactly.
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

  const QuantizedCache& cache_;
  int64_t clipped_ = 0;
};

}  // namespace

std::unique_ptr<Sequence> make_simulated_sequence(const Checkpoint& model, const QuantizedCache& cache,
                                                  int64_t context) {
  return std::make_unique<SimulatedSequence>(model, cache, context);
}

}  // namespace blockgtq
