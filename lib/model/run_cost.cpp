#include "model/run_cost.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "model/matmul.h"
#include "model/weights.h"

namespace blockgtq {

ModelSize model_size(const Config& c) {
  ModelSize size;
  const OuterWeights outer = expected_outer(c);
  size.output_products = outer.lm_head.weight.elements();
  size.numbers = outer.embedding.elements() + outer.final_norm.weight.elements();
  if (!c.tied) size.numbers += size.output_products;
  for (int l = 0; l < c.n_layers; ++l) {
    const LayerWeights weights = expected_layer(c, l);
    int64_t numbers = 0;
    for (const Tensor* tensor : weights.all()) numbers += tensor->elements();
    size.numbers += numbers;
    size.largest_layer = std::max(size.largest_layer, numbers);
    for (const Tensor* tensor : weights.without_experts())
      if (tensor->shape.size() == 2) size.layer_products += double(tensor->elements());
    for (const Mlp& expert : weights.experts)
      for (const Linear* w : expert.parts())
        size.layer_products += double(w->weight.elements()) * c.moe.n_per_token / c.moe.n_experts;
  }
  return size;
}

namespace {

double operation_rate() {
  constexpr int64_t kN = 256, kSize = 1024;
  const std::vector<uint16_t> bits(kSize * kSize, 0x3f80);  // bf16 ones
  Linear w;
  w.weight.dtype = DType::bf16;
  w.weight.shape = {kSize, kSize};
  w.weight.data = std::as_bytes(std::span(bits));
  std::vector<float> x(kN * kSize, 1.0f), y(kN * kSize);
  double best = 0;
  for (int i = 0; i < 4; ++i) {
    const auto start = std::chrono::steady_clock::now();
    linear(w, x.data(), kN, y.data());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, 2.0 * kN * kSize * kSize / seconds);
  }
  return best;
}

}  // namespace

PassTime pass_time(const ModelSize& size, int64_t n_tokens) {
  return {2 * size.layer_products * double(n_tokens), operation_rate()};
}

std::string PassTime::text() const {
  return fmt::format("about {:.1f} s a pass on this CPU ({:.3g} TFLOP at {:.0f} GFLOP/s)", seconds(),
                     operations / 1e12, rate / 1e9);
}

}  // namespace blockgtq
