#include "cache/layer_cache.h"

#include "cache/read_positions.h"
#include "cache/trellis_cache.h"

namespace blockgtq {

PlainPositions LayerCache::read(std::span<const uint8_t* const> pages, int64_t first, int64_t end) const {
  return read_positions(spec().n_kv_heads(), spec().layout.head_dim, pages, first, end,
                        [&](int64_t t, const uint8_t* page, double* k, double* v) { read(t, page, k, v); });
}

std::unique_ptr<LayerCache> make_layer_cache(PackedSpec spec) {
  if (has_trellis(spec)) return std::make_unique<TrellisCache>(std::move(spec));
  return std::make_unique<PackedCache>(std::move(spec));
}

}  // namespace blockgtq
