// What the decoding kernels over packed pages share: the widths that have a kernel of their own, and the
// layout of a block's shared memory before its pages.
#pragma once
#include "kernels/cache/packed_queries.cuh"

namespace blockgtq::cuda {

// in place of a width: there are several, one group each (PackedLayer::by_width)
constexpr int kSeveral = -1;

/// The widths of keys and of values as a type. 0: as the table says. Key widths may be kSeveral.
template <int kKey, int kValue>
struct Widths {
  static constexpr int key = kKey, value = kValue;
};

/// Calls f with the widths of a layer, if there is a kernel of its own for them. kTiles: see shared_plan().
template <int kDim, int kTiles, class F>
auto with_layer_widths(const PackedLayer& layer, F f) {
  if constexpr (kDim == 128 && kTiles == 1) {
    const int key = layer.uniform_key, value = layer.uniform_value;
    if (key == 2 && value == 2) return f(Widths<2, 2>());
    if (key == 3 && value == 2) return f(Widths<3, 2>());
    if (key == 3 && value == 3) return f(Widths<3, 3>());
    if (key == 4 && value == 4) return f(Widths<4, 4>());
    if (key == 0 && layer.by_width) {
      if (value == 2) return f(Widths<kSeveral, 2>());
      if (value == 3) return f(Widths<kSeveral, 3>());
      if (value == 4) return f(Widths<kSeveral, 4>());
    }
    if (value == 2) return f(Widths<0, 2>());
    if (value == 3) return f(Widths<0, 3>());
    if (value == 4) return f(Widths<0, 4>());
  }
  return f(Widths<0, 0>());
}

/// Offsets in shared memory. The table comes first, and pages lie from `end` on. kTiles: tiles of
/// eight query heads.
struct SharedPlan {
  int rows, queries, wide_queries, plain_queries, bounds, mean, end;
};
template <int kDim, int kTiles>
__host__ __device__ SharedPlan shared_plan(const PackedLayer& layer) {
  SharedPlan p{};
  p.rows = layer.table_bytes;
  p.queries = p.rows + 8 * kTiles * kQueryPitch<kDim> * 2;
  p.wide_queries = p.queries + layer.key_halves * kTiles * 256;
  p.plain_queries = p.wide_queries + (layer.wide_keys ? layer.key_slabs * kTiles * 256 : 0);
  p.bounds = p.plain_queries + (layer.key_mean ? kDim / 16 * kTiles * 256 : 0);
  p.mean = p.bounds + 8 * kTiles * 4 * 2;
  p.end = (p.mean + (layer.key_mean ? 4 * (kDim / 16) * 512 : 0) + 127) / 128 * 128;
  return p;
}
__device__ inline Queries queries_at(const SharedPlan& p, unsigned char* shared) {
  return {shared + p.queries, reinterpret_cast<uint2*>(shared + p.wide_queries),
          reinterpret_cast<uint2*>(shared + p.plain_queries), reinterpret_cast<float*>(shared + p.bounds)};
}

/// Starts to copy what does not depend on the step. It is there after wait_for_lines(). several: queries are
/// set to zero, which prepare_queries() needs where there are several widths.
template <int kDim, int kTiles>
__device__ inline void load_constants(const PackedLayer& layer, int kv_head, const SharedPlan& p,
                                      unsigned char* shared, bool several) {
  const uint8_t* const table = layer.tables + int64_t(kv_head) * layer.table_bytes;
  for (int i = 16 * threadIdx.x; i < layer.table_bytes; i += 16 * blockDim.x)
    copy_line(shared + i, table + i);
  if (several)
    for (int i = p.queries + 16 * threadIdx.x; i < p.plain_queries; i += 16 * blockDim.x)
      *reinterpret_cast<uint4*>(shared + i) = uint4{};
  if (layer.key_mean) load_mean<kDim>(layer, kv_head, reinterpret_cast<uint4*>(shared + p.mean));
}

}  // namespace blockgtq::cuda
