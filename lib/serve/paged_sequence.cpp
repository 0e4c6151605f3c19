#include "serve/paged_sequence.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/float16.h"
#include "cache/exact_page.h"
#include "model/rotary.h"
#include "serve/cuda_sequence.h"
#include "serve/past_sequence.h"

namespace blockgtq {
namespace {

/// Rotates keys, and rotates them back.
struct Turn {
  RotaryTable there, back;

  Turn(const Config& config, int64_t length, bool local, double factor)
      : there(rotary_table(config, length, local)), back(there) {
    const auto square =
        float(factor * factor);  // cosines and sines have the factor; rotating back must divide by it
    for (float& x : back.cos) x /= square;
    for (float& x : back.sin) x /= -square;
  }
};

class PagedSequence final : public PastSequence {
 public:
  PagedSequence(const Checkpoint& model, const AttentionShape& shape, const KvKind& kind, int64_t context,
                int64_t chunk)
      : PastSequence(model, make_cpu_backend(), context), shape_(shape), kind_(kind), chunk_(chunk) {
    check(chunk > 0, "PagedSequence: a chunk");
    if (shape.v_dim == 0)
      throw Error(Exit::input, model.folder().string() + ": caches a latent, not values per head");
    for (const PackedSpec& spec : kind_.packed) caches_.push_back(make_layer_cache(spec));
    pages_.resize(caches_.size());
    const Config& c = model.config();
    main_.emplace(c, context, false, shape.ropes[0].attention_factor);
    if (c.local_rope) local_.emplace(c, context, true, 1.0);
  }

  std::span<const float> append(std::span<const int32_t> tokens) override {
    if (past_.n == 0) {
      read_prompt(tokens);
      return logits_;
    }
    for (const int32_t token : tokens) {
      pack_what_is_no_longer_recent(past_.n, past_.n + 1);
      pass({&token, 1}, [&](LayerActivations& acts) { hold(acts); });
    }
    return logits_;
  }

  int64_t cache_bytes() const override {
    int64_t packed = 0;
    for (const auto& cache : caches_) packed += cache->page_bytes();
    return kv_bytes(window(), past_.n, packed,
                    shape_.n_layers * exact_page_bytes(shape_.n_kv_heads, shape_.layout.head_dim));
  }

 private:
  int64_t width() const { return int64_t(shape_.n_kv_heads) * shape_.layout.head_dim; }
  ExactWindow window() const { return kind_.window(past_.context); }
  /// Whether position t is packed when there are n positions.
  bool packed(int64_t t, int64_t n) const { return t >= window().sink && t < packed_end(window(), n); }

  const Turn* turn_of(int layer) const {
    switch (model_.config().layer_attention[size_t(model_.config().kv_layers()[size_t(layer)])].rotation) {
      case LayerAttention::Rotation::none:
        return nullptr;
      case LayerAttention::Rotation::local:
        return &*local_;
      default:
        return &*main_;
    }
  }
  void rotate_keys(const RotaryTable& table, float* k, int64_t t) const {
    const int64_t dim = shape_.layout.head_dim;
    rotate(table, k, 1, width(), shape_.n_kv_heads, dim, past_.context, t);
  }

  uint8_t* page_of(size_t layer, int64_t t) {
    auto& pages = pages_[layer];
    while (int64_t(pages.size()) <= t / kPagePositions)
      pages.emplace_back(size_t(caches_[layer]->page_bytes()));
    return pages[size_t(t / kPagePositions)].data();
  }

  /// Writes position t of n into its page: k (H, D) after RoPE and v (H, D). Replaces both by what the cache
  /// decodes.
  void store(size_t layer, int64_t t, int64_t n, float* k, float* v) {
    for (int64_t i = 0; i < width(); ++i) {  // keys and values enter the cache as fp16
      k[i] = from_half(to_half(k[i]));
      v[i] = from_half(to_half(v[i]));
    }
    if (!kind_.is_packed()) return;
    caches_[layer]->write(t, k, v, page_of(layer, t));
    if (packed(t, n)) load(layer, t, k, v);
  }
  void load(size_t layer, int64_t t, float* k, float* v) {
    std::vector<double> key(static_cast<size_t>(width())), value(key);
    caches_[layer]->read(t, page_of(layer, t), key.data(), value.data());
    std::copy(key.begin(), key.end(), k);
    std::copy(value.begin(), value.end(), v);
  }

  void read_prompt(std::span<const int32_t> tokens) {
    for (int64_t first = 0; first < int64_t(tokens.size()); first = past_.n) {
      pass(tokens.subspan(size_t(first), size_t(std::min(chunk_, int64_t(tokens.size()) - first))), nullptr);
      pack_what_is_no_longer_recent(first, past_.n);
      for (size_t l = 0; l < past_.layers.size(); ++l)
        for (int64_t t = first; t < past_.n; ++t)
          store(l, t, past_.n, past_.layers[l].k.data() + t * width(),
                past_.layers[l].v.data() + t * width());
    }
  }

  /// Stores one new token of a layer, given before RoPE.
  void hold(LayerActivations& acts) {
    const Turn* const turn = turn_of(acts.layer);
    const int64_t t = past_.n;
    if (turn) rotate_keys(turn->there, acts.k, t);
    store(size_t(acts.layer), t, t + 1, acts.k, acts.v);
    if (turn) rotate_keys(turn->back, acts.k, t);
  }

  /// Packs those of `held` positions that are no longer recent when there are n.
  void pack_what_is_no_longer_recent(int64_t held, int64_t n) {
    const int64_t first = packed_end(window(), held), end = std::min(held, packed_end(window(), n));
    for (size_t l = 0; l < caches_.size(); ++l)
      for (int64_t t = first; t < end; ++t)
        load(l, t, past_.layers[l].k.data() + t * width(), past_.layers[l].v.data() + t * width());
  }

  const AttentionShape shape_;
  const KvKind kind_;
  const int64_t chunk_;
  std::optional<Turn> main_, local_;
  std::vector<std::unique_ptr<LayerCache>> caches_;       // (L), or empty
  std::vector<std::vector<std::vector<uint8_t>>> pages_;  // (L, pages)
};

}  // namespace

bool has_pages(const Config& config, bool on_gpu) {
  return on_gpu ? without_step(config).empty() : config.attention != AttentionKind::mla;
}

std::unique_ptr<Sequence> make_paged_sequence(const Checkpoint& model, const AttentionShape& shape,
                                              const KvKind& kind, int64_t context, int64_t chunk) {
  return std::make_unique<PagedSequence>(model, shape, kind, context, chunk);
}

}  // namespace blockgtq
