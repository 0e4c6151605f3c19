// What the launchers of decode attention over packed pages share: how a step is distributed over the device,
// the attention over its exact positions, its merge.
#pragma once
#include <algorithm>
#include <type_traits>

#include "cache/page_layout.h"
#include "kernels/cache/merge.h"
#include "kernels/cache/packed_attention.h"
#include "kernels/cache/splits.cuh"

namespace blockgtq::cuda {

/// Calls f with centre_slabs() as an integral_constant.
template <class F>
auto with_centre_slabs(int centres, F f) {
  constexpr int kSlabs = centre_slabs(kMostCentresOnDevice);
  return centres > 0 ? f(std::integral_constant<int, kSlabs>()) : f(std::integral_constant<int, 0>());
}

/// Whether the query heads of a group fit into one tile of eight.
inline bool narrow(const PackedLayer& layer) {
  return heads_per_chunk(layer.n_heads / layer.n_kv_heads) == 8;
}

/// Whether a step may have packed positions. It has none where the exact window holds all that may be there.
inline bool has_packed(const DecodeAttention& step) {
  return !step.exact || step.longest > int64_t(step.first_page) * kPagePositions;
}

inline void check_step(const DecodeAttention& step, const void* scratch) {
  check(step.layer && step.q && step.out && step.type != FloatType::f32 && scratch && step.batch > 0 &&
            step.batch <= 65535,
        "decode attention: arguments");
  check(step.layer->n_heads % step.layer->n_kv_heads == 0, "decode attention: heads");
  check(step.rule.window == 0 || step.rule.positions, "decode attention: a window without positions");
  check(step.longest <= step.cache.stride * kPagePositions, "decode attention: block table");
}

struct DecodePlan {
  int chunks = 1, splits = 1, warps = 1, parts = 4, items = 1;  // parts: tiles of 16 positions per item
};

/// Which parts of a page, 2 and 1 tiles of 16 positions, have kernels beside whole pages: their sum. With
/// centres they are fewer, for the compiler's time.
template <int kTiles, int kCentreSlabs>
constexpr int kServedParts = kCentreSlabs == 0 ? 3
                             : kTiles == 1     ? 1
                                               : 0;

/// tiles: of eight query heads, per chunk; most: the most warps of a block; served: kServedParts.
inline DecodePlan plan_decode(const DecodeAttention& step, int tiles, int most, int served) {
  check(most >= 1, "decode attention: no room for a page");
  const PackedLayer& layer = *step.layer;
  DecodePlan p;
  const int group = layer.n_heads / layer.n_kv_heads;
  p.chunks = (group + 8 * tiles - 1) / (8 * tiles);
  const int sms = attribute(cudaDevAttrMultiProcessorCount);
  const int64_t all = (step.longest + kPagePositions - 1) / kPagePositions - step.first_page;
  const int pages = int(std::max<int64_t>(1, step.rule.stretches(all, kPagePositions)));
  const int64_t blocks = int64_t(layer.n_kv_heads) * p.chunks * step.batch;
  p.splits = splits_on(sms, blocks, int64_t(layer.n_heads) * step.batch, pages, most);
  // Two or four warps share a page, where no warp would have two pages.
  for (int parts = 2; parts > 0 && 4 / parts * pages <= p.splits * most; parts /= 2)
    if (served & parts) p.parts = parts;
  p.items = pages * (4 / p.parts);
  p.warps = std::clamp((p.items + p.splits - 1) / p.splits, std::min(8, most), most);
  p.splits = std::min(p.splits, (p.items + p.warps - 1) / p.warps);
  return p;
}

inline ExactAttention window_of(const DecodeAttention& step) {
  ExactAttention window;
  window.dim = step.layer->dim;
  window.n_heads = step.layer->n_heads;
  window.n_kv_heads = step.layer->n_kv_heads;
  window.batch = step.batch;
  window.pages = *step.exact;
  window.q = step.q;
  window.out = step.out;
  window.type = step.type;
  window.scale = step.scale;
  window.rule = step.rule;
  return window;
}

/// The merge of a step, without its splits.
inline MergeSplits merge_of(const DecodeAttention& step) {
  const PackedLayer& layer = *step.layer;
  MergeSplits merge;
  merge.dim = layer.dim;
  merge.n_heads = layer.n_heads;
  merge.n_kv_heads = layer.n_kv_heads;
  merge.batch = step.batch;
  merge.value_back = layer.value_back;
  merge.value_rows = 16 * layer.value_slabs;
  merge.value_mean = layer.value_mean;
  merge.centres = layer.centres.padded;
  merge.sinks = step.rule.sinks;
  merge.out = step.out;
  merge.type = step.type;
  return merge;
}

}  // namespace blockgtq::cuda
