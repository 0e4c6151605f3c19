// Sequences against the forward pass on the CPU over the same pages.
#pragma once
#include <functional>

#include "catch.h"
#include "model/captured.h"
#include "model/past.h"
#include "model/rotary.h"
#include "serve/sequence.h"
#ifdef BLOCKGTQ_CUDA
#include "kernels/device_arrays.h"
#include "serve/cuda_sequence.h"
#endif

namespace blockgtq::test {

#ifdef BLOCKGTQ_CUDA
inline CudaOptions fp32() {
  CudaOptions options;
  options.type = ComputeType::fp32;
  return options;
}
#endif

/// What a text's cache holds of a layer: Sequence::held() and the like.
using Held = std::function<PlainPositions(int layer)>;
inline Held held_by(const Sequence& sequence) {
  return [&](int layer) { return sequence.held(layer); };
}

/// What is held of the first n positions, as a past.
inline Past past_of(const Config& c, const Held& held, int64_t n) {
  Past past;
  past.n = n;
  past.context = 330;
  const int64_t width = int64_t(c.n_kv_heads) * c.head_dim;
  for (int l = 0; l < c.n_layers; ++l) {
    const PlainPositions all = held(l);
    REQUIRE(int64_t(all.k.size()) >= n * width);
    past.layers.push_back(
        {{all.k.begin(), all.k.begin() + n * width}, {all.v.begin(), all.v.begin() + n * width}, {}, {}});
  }
  return past;
}

/// The CPU's logits behind the last of these tokens, which go on behind what a sequence holds; on_layer may
/// be empty.
inline std::vector<float> logits_behind(const Checkpoint& model, Past past, std::span<const int32_t> tokens,
                                        const OnLayer& on_layer) {
  std::vector<float> found;
  ForwardRequest request;
  request.tokens = tokens;
  request.chunk = 0;
  request.past = &past;
  request.on_layer = on_layer;
  request.logits_from = int64_t(tokens.size()) - 1;
  request.on_logits = [&](int64_t, int64_t, const float* logits) {
    found.assign(logits, logits + model.config().vocab);
  };
  make_cpu_backend()->forward(model, request);
  return found;
}

/// The CPU's logits behind token t, over what is held of a text that ends with it.
inline std::vector<float> over_pages(const Checkpoint& model, const Held& held,
                                     std::span<const int32_t> tokens, size_t t) {
  const Config& c = model.config();
  const int64_t width = int64_t(c.n_kv_heads) * c.head_dim;
  const Past past = past_of(c, held, int64_t(t));
  const auto turned_back = [&](bool local) {
    RotaryTable table = rotary_table(c, past.context, local);
    const double factor =
        rope_frequencies(local ? *c.local_rope : c.rope, c.max_position, past.context).attention_factor;
    const auto square = float(factor * factor);  // cosines and sines have the factor, both ways
    for (float& x : table.cos) x /= square;
    for (float& x : table.sin) x /= -square;
    return table;
  };
  const RotaryTable back = turned_back(false), local_back = c.local_rope ? turned_back(true) : back;
  return logits_behind(model, past, tokens.subspan(t, 1), [&](LayerActivations& acts) {
    const PlainPositions all = held(acts.layer);
    REQUIRE(int64_t(all.k.size()) == int64_t(t + 1) * width);
    std::copy(all.k.end() - width, all.k.end(), acts.k);
    std::copy(all.v.end() - width, all.v.end(), acts.v);
    const LayerAttention::Rotation how = c.layer_attention[size_t(acts.layer)].rotation;
    if (how == LayerAttention::Rotation::none) return;
    rotate(how == LayerAttention::Rotation::local ? local_back : back, acts.k, 1, width, c.n_kv_heads,
           c.head_dim, past.context, int64_t(t));
  });
}

/// A prompt, then `steps` tokens one by one: the logits of every seventh. Where two experts are as likely as
/// each other, rounding decides; a token may then go to another one.
inline void check_over_pages(const Checkpoint& model, Sequence& sequence, std::span<const int32_t> tokens,
                             size_t prompt, size_t steps, double bound) {
  sequence.append(tokens.first(prompt));
  double worst = 0;
  int n = 0, apart = 0;
  for (size_t t = prompt; t < prompt + steps; ++t) {
    const std::span<const float> got = sequence.append({&tokens[t], 1});
    if (t % 7 != 0) continue;
    const double distance = relative_distance(got, over_pages(model, held_by(sequence), tokens, t));
    worst = std::max(worst, distance);
    apart += !(distance < bound);
    ++n;
  }
  INFO("largest distance " << worst << ", " << apart << " of " << n << " too large");
  CHECK(apart <= (model.config().moe.n_experts > 0 ? std::max(1, n / 10) : 0));
}

}  // namespace blockgtq::test
