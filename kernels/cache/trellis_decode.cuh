// Attention of one new token per sequence over keys and values in trellis codes: packed_decode.cuh with
// look-ups of windows in place of scalar codes (trellis_look_up.cuh). Queries, scores, weights, splits and
// merge are the same.
//
// Grid: splits of the context, KV heads, sequences. The look-up tables in shared memory (64 or 128 KB; up to
// 160 KB where widths differ) are filled while the preceding kernel ends. Little is left for pages. So a warp
// has one stage for the keys of an item and one for its values: one is loaded while the other is used.
//
//   S^T (positions, heads)  = K (positions, D) q^T (D, heads)
//   O^T (D, heads)         += V^T (D, positions) P^T (positions, heads)
//
// One look-up gives several coordinates of a position, which for values are rows of the operand. So a word of
// the operand holds two coordinates of two positions, and is multiplied by the weights twice: for one
// coordinate the weights are in the even bytes and the odd bytes are zero, and for the other coordinate it is
// the reverse. That takes twice the products, of which the tensor cores can do five times as many, and saves
// half of the transposition.
//
// Cost at D = 128 of a page of one KV head, by a warp whose lanes have 512 coordinates each. The columns are:
// instructions as compiled, less what is jumped over; how many of them the pipe of shifts, masks and
// permutations takes two cycles each for; cycles of shared memory for look-ups, which four schedulers share.
// Codes, queries, sums and the page's way in take some 150 more of the latter.
//
//             instructions   of that pipe   cycles of look-ups
//   K2V2          1660            620              256
//   K3V3          1900            960              256
//   K4V4          2290            780              512
//   scalar K3V3    970
//
// With 31 pages per multiprocessor (131072 positions, 2 KV heads, 132 multiprocessors), 8 per scheduler, K3V3
// takes at least 15,000 cycles of that pipe, 14,700 of issue and 12,600 of shared memory. That is 8.5 us,
// which is what the scalar kernel's pages take at half of the possible issue rate.
#pragma once
#include <algorithm>

#include "cache/trellis_page.h"
#include "kernels/cache/decode_step.cuh"
#include "kernels/cache/packed_step.cuh"
#include "kernels/cache/packed_values.cuh"
#include "kernels/cache/trellis_attention.h"
#include "kernels/cache/trellis_look_up.cuh"
#include "kernels/cache/value_centres.cuh"
#include "kernels/device/check.cuh"

namespace blockgtq::cuda {

/// The sums of packed splits where values have centres. Returns their number.
int trellis_with_centres(const TrellisLayer& layer, const DecodeAttention& step, float* sums,
                         const Stream& stream);

namespace {

/// The most warps of a block, by their registers.
template <int kTiles>
constexpr int kMostWarps = kTiles == 2 ? 8 : 12;

/// How many tiles of an item are straight code, as far as registers last. Four are 30 to 40 KB of
/// instructions, and still faster than two and a loop: 17.9, 20.6 and 23.8 us instead of 18.4, 21.0 and
/// 24.0 (K2V2, K3V3, K4V4 at 128 K).
template <int kParts, int kMost>
constexpr int kTilesAtOnce = kParts < kMost ? kParts : kMost;

constexpr int kScalarBits = 3;  // queries are laid out as for scalar codes of this width

struct Arguments {
  TrellisLayer layer;
  PageTable cache;
  const uint16_t* q;
  bool bf16;              // q is
  float* sums;            // SplitSums
  float scale;            // times log2(e)
  int first_page, items;  // of the longest sequence, from its first page on
  int group, chunks, splits, warp_bytes;
  int fresh;  // DecodeAttention::fresh
  // Offsets in shared memory, in bytes. They are arguments, so that the compiler keeps the addresses of
  // tables in uniform registers, which loads add at no cost.
  int key_table, value_table, stages;
  int merged;  // where merge_warps() works: with centres over the tables, which are read no more
  LookUpNumbers numbers;
};

/// Norms of positions r and 8 + r of a tile, zero from `valid` on.
__device__ inline uint32_t tile_norms(const uint8_t* norms, int tile, int valid) {
  const int row = threadIdx.x % 32 / 4;
  const uint32_t pair = reinterpret_cast<const uint32_t*>(norms)[4 * row + tile];
  if (valid >= kPagePositions) return pair;
  return pair & ((16 * tile + row < valid ? 0xffffu : 0u) | (16 * tile + 8 + row < valid ? 0xffff0000u : 0u));
}

/// s = keys . prepared queries.
template <int kDim, int kTiles, int kParts, int kBits, class Table>
__device__ void score_keys(Scores<kTiles, kParts>& s, const uint8_t* side, const Table& table,
                           const Queries& queries, int part, int valid, const Zero& zero) {
  constexpr int kSteps = kDim / 32;
  const int lane = threadIdx.x % 32;
  uint4 q[kSteps][kTiles];
#pragma unroll
  for (int step = 0; step < kSteps; ++step)
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
      q[step][tile] = reinterpret_cast<const uint4*>(queries.fixed)[(step * kTiles + tile) * 32 + lane];
  const uint8_t* const norms = side + trellis_code_bytes(kDim, kBits);
  constexpr int kAtOnce = kTilesAtOnce<kParts, 4>;
#pragma unroll 1
  for (int at = 0; at < kParts; at += kAtOnce) {  // every round shifts s by what it adds
    Scores<kTiles, kAtOnce> newest;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const TileStream<kDim, kBits, true> stream(side, part + at + i);
      Sums<kTiles, 1> high, low;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t a[4];
        key_operand(a, table, stream, step);
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const uint4& b = q[step][tile];
          if (step == 0) {
            mma_first<false>(high[tile][0], a, b.x, b.y, zero);
            mma_first<false>(low[tile][0], a, b.z, b.w, zero);
          } else {
            mma<false>(high[tile][0], a, b.x, b.y);
            mma<false>(low[tile][0], a, b.z, b.w);
          }
        }
      }
      Scores<kTiles, 1> of_tile;
      const uint32_t norm = tile_norms(norms, part + at + i, valid);
      take_sums<kTiles, 1, true>(of_tile, high, low, &norm, 1, 0);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int j = 0; j < 4; ++j) newest[tile][i][j] = of_tile[tile][0][j];
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int k = 0; k < kParts; ++k)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          s[tile][k][j] = k + kAtOnce < kParts ? s[tile][(k + kAtOnce) % kParts][j]
                                               : newest[tile][k + kAtOnce - kParts][j];
  }
}

/// The weights of a tile, for words of two coordinates and two positions: (coordinate, high or low byte of
/// the weight, eight positions).
using WeightOperand = uint32_t[2][2][2];
__device__ inline void spread_weights(WeightOperand& b, const uint32_t (&pairs)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const uint32_t x = pairs[half];
    b[0][0][half] = permute(x, 0, 0x4341u);
    b[0][1][half] = x & 0x00ff00ffu;
    b[1][0][half] = x & 0xff00ff00u;
    b[1][1][half] = permute(x, 0, 0x2404u);
  }
}

/// o += values times weights, plus the excess. Slab 2 m + e of o is coordinate e of both pairs of words m.
template <int kDim, int kTiles, int kParts, int kBits, int kSlabs, class Table>
__device__ void add_trellis_values(State<kSlabs, kTiles>& state, const uint8_t* codes, const Table& table,
                                   const Weights<kTiles, kParts>& w, int part, const Zero& zero) {
  // of four slabs; as registers allow
  constexpr int kGroups = kDim / 64, kAtOnce = kTiles == 2 ? 1 : kGroups;
  constexpr int kHere = kTilesAtOnce < kParts, kTiles == 2 ? 2 : 4 > ;  // tiles at a time
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j)
      state.excess[tile][j] = fmaf(kZeroRead, w.unit[tile][j], state.excess[tile][j]);
#pragma unroll
  for (int from = 0; from < kGroups; from += kAtOnce) {
    int high[4 * kAtOnce][kTiles][4], low[4 * kAtOnce][kTiles][4];
#pragma unroll
    for (int slab = 0; slab < 4 * kAtOnce; ++slab)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const float(&o)[4] = state.o[4 * from + slab][tile];  // operands in registers that differ
        set_sums(high[slab][tile], __float_as_uint(o[0]), __float_as_uint(o[1]), zero);
        set_sums(low[slab][tile], __float_as_uint(o[2]), __float_as_uint(o[3]), zero);
      }
    Weights<kTiles, kParts> left = w;  // every round shifts what is left to the front
#pragma unroll 1
    for (int at = 0; at < kParts; at += kHere) {
#pragma unroll
      for (int i = 0; i < kHere; ++i) {
        const TileStream<kDim, kBits, false> stream(codes, part + at + i);
        WeightOperand b[kTiles];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) spread_weights(b[tile], left.pairs[tile][i]);
#pragma unroll
        for (int group = 0; group < kAtOnce; ++group) {
          uint32_t a[2][4];
          value_operands(a, table, stream, from + group);
#pragma unroll
          for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int tile = 0; tile < kTiles; ++tile) {
              const uint32_t(&x)[2][2] = b[tile][j % 2];
              const int slab = 4 * group + j;
              mma<true>(high[slab][tile], a[j / 2], x[0][0], x[0][1]);
              mma<true>(low[slab][tile], a[j / 2], x[1][0], x[1][1]);
            }
        }
      }
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int k = kHere; k < kParts; ++k)
#pragma unroll
          for (int half = 0; half < 2; ++half) left.pairs[tile][k - kHere][half] = left.pairs[tile][k][half];
    }
#pragma unroll
    for (int slab = 0; slab < 4 * kAtOnce; ++slab)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float sum = fmaf(__int_as_float(high[slab][tile][j]) - kZeroRead, 256.0f,
                                 __int_as_float(low[slab][tile][j]));
          float& o = state.o[4 * from + slab][tile][j];
          o = fmaf(sum, w.unit[tile][j % 2], o);
        }
  }
}

/// kParts: tiles of 16 positions in an item, 4 (a page), 2 or 1. kCentreSlabs: centre_slabs().
template <int kDim, int kTiles, int kParts, int kKeyBits, int kValueBits, int kCentreSlabs>
__global__ void __launch_bounds__(32 * kMostWarps<kTiles>) trellis_kernel(const Arguments a) {
  using KeyTable = LookUpTable<kKeyBits, kValueBits>;
  using ValueTable = LookUpTable<kValueBits, kKeyBits>;
  constexpr int kSlabs = kDim / 16 + kCentreSlabs, kItems = 4 / kParts;  // of the result; items of a page
  constexpr int kKeys = trellis_side_bytes(kDim, kKeyBits),
                kValues = trellis_block_bytes(kDim, kKeyBits, kValueBits, kCentreSlabs > 0) - kKeys;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ uint64_t barriers[kMostWarps<kTiles>][2];
  const int warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  Arrivals<2> arrivals(barriers[warp]);  // first, since it waits for all loads before it
  const uint4 key_rows = KeyTable::first_rows(a.layer.key_centroids),
              value_rows = ValueTable::first_rows(a.layer.value_centroids);
  const int kv_head = blockIdx.y / a.chunks, chunk = blockIdx.y % a.chunks, sequence = blockIdx.z;
  const PackedLayer& layer = a.layer.packed;
  const SharedPlan plan = shared_plan<kDim, kTiles>(layer);
  const PackedTable& t =
      *reinterpret_cast<const PackedTable*>(layer.tables + int64_t(kv_head) * layer.table_bytes);
  const float query_scale = t.query_scale;
  const int first_head = kv_head * a.group + chunk * 8 * kTiles;
  const int n_heads = min(8 * kTiles, a.group - chunk * 8 * kTiles);
  const uint16_t* q = a.q + (int64_t(sequence) * layer.n_heads + first_head) * kDim;
  unsigned char *const key_bytes = shared + a.key_table, *const value_bytes = shared + a.value_table;
  const Queries queries = queries_at(plan, shared);
  const uint4* mean = reinterpret_cast<const uint4*>(shared + plan.mean);
  load_constants<kDim, kTiles>(layer, kv_head, plan, shared, false);
  const int angle_bytes = layer.page_angles ? kDim * 4 : 0;
  unsigned char* const keys = shared + a.stages + warp * a.warp_bytes;
  unsigned char* const values = keys + kKeys + angle_bytes;
  const Range range = items_of(a.first_page * kItems, a.items, blockIdx.x, a.splits);
  const int first = range.first + warp;
  const int32_t* const pages = a.cache.block_table + sequence * a.cache.stride;
  int length = 0, last = 0, ids = 0;  // ids: pages of this warp's items, one to a lane
  const auto read_ids = [&](int n) {
    const int item = first + (n + int(threadIdx.x % 32)) * n_warps;
    if (item < range.last) ids = pages[item / kItems];
  };
  const auto read_lengths = [&] {
    length = a.cache.lengths[sequence];
    last = min(range.last, (length + 16 * kParts - 1) / (16 * kParts));
    read_ids(0);
  };
  if (a.fresh >= 0) read_lengths();
  QueryMap<kDim, kScalarBits> map;
  map.load(layer, kv_head, warp);
  const uint8_t* block = nullptr;  // that of this warp's n-th item; keys come first
  const auto load_keys = [&](int n) {
    const int item = first + n * n_warps, id = __shfl_sync(kAll, ids, n % 32);
    block = a.cache.pages + id * layer.page_bytes + kv_head * (kKeys + kValues);
    if (item < last) {
      arrivals.expect(0, kKeys + angle_bytes);
      arrivals.copy(0, keys, block, kKeys);
      if (angle_bytes)
        arrivals.copy(0, keys + kKeys, layer.page_angles + int64_t(item / kItems) * kDim, angle_bytes);
    }
    arrivals.commit();
  };
  const auto load_values = [&](int n) {
    if (first + n * n_warps < last) {
      arrivals.expect(1, kValues);
      arrivals.copy(1, values, block + kKeys, kValues);
    }
    arrivals.commit();
  };
  const auto load_both = [&] {
    load_keys(0);
    load_values(0);
  };
  // What the preceding kernel does not write is loaded while that one ends.
  const bool early = first < max(length - a.fresh, 0) / kPagePositions * kItems && a.fresh >= 0;
  if (early) load_both();
  KeyTable::fill(key_bytes, a.layer.key_centroids, key_rows);
  if (kKeyBits != kValueBits) ValueTable::fill(value_bytes, a.layer.value_centroids, value_rows);
  wait_for_predecessor();
  if (a.fresh < 0) read_lengths();
  load_queries<kDim, kTiles>(q, a.bf16, n_heads, reinterpret_cast<__half*>(shared + plan.rows));
  if (!early) load_both();
  wait_for_lines();
  __syncthreads();
  const __half* const rows = reinterpret_cast<const __half*>(shared + plan.rows);
  prepare_queries<kDim, kTiles, kScalarBits>(layer, kv_head, rows, map, queries);
  if (layer.key_mean) prepare_plain<kDim, kTiles>(layer, rows, queries.plain);
  __syncthreads();
  let_successor_start();

  const KeyTable key_table(key_bytes, a.numbers);
  const ValueTable value_table(value_bytes, a.numbers);
  const Zero zero = {kept(kZero), kept(kZero), kept(kZero), kept(kZero)};
  State<kSlabs, kTiles> state;
  float factor[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      factor[tile][j] =
          fmaxf(queries.bounds[2 * (8 * tile + threadIdx.x % 4 * 2 + j)] * query_scale * a.scale, 1e-30f);
      state.m[tile][j] = -1e30f;
      state.l[tile][j] = 0;
    }
#pragma unroll 1
  for (int n = 0; first + n * n_warps < last; ++n) {
    const int item = first + n * n_warps, page = item / kItems, part = item % kItems * kParts;
    const int valid = length - page * kPagePositions;
    if ((n + 1) % 32 == 0) read_ids(n + 1);
    arrivals.wait(0, n);
    float s[kTiles][kParts][4] = {};
    score_keys<kDim, kTiles, kParts, kKeyBits>(s, keys, key_table, queries, part, valid, zero);
    if (layer.key_mean)
      score_mean<kDim, kTiles, kParts>(s, keys + trellis_code_bytes(kDim, kKeyBits),
                                       reinterpret_cast<const float4*>(keys + kKeys), queries, mean,
                                       query_scale, part);
    if (valid < kPagePositions) mask<kTiles, kParts>(s, part, valid);
    __syncwarp();
    load_keys(n + 1);
    arrivals.wait(1, n);
    Weights<kTiles, kParts> w;
    uint32_t pair[4];
    load_norms(pair, values + trellis_code_bytes(kDim, kValueBits), threadIdx.x % 32 / 4, valid);
    weigh<kSlabs, kTiles, kParts>(state, s, factor, pair, part, n == 0, kCentreSlabs == 0 && layer.value_mean,
                                  w);
    if constexpr (kCentreSlabs > 0)
      add_to_centres<kCentreSlabs>(state, s, w, pair, part, values + trellis_side_bytes(kDim, kValueBits));
    add_trellis_values<kDim, kTiles, kParts, kValueBits>(state, values, value_table, w, part, zero);
    __syncwarp();
    load_values(n + 1);
  }
  const int64_t place = (int64_t(sequence) * gridDim.y + blockIdx.y) * a.splits + blockIdx.x;
  merge_warps<kSlabs, kTiles, kCentreSlabs>(
      state, max(1, min(n_warps, last - range.first)), kCentreSlabs == 0 && layer.value_mean,
      reinterpret_cast<float*>(shared + a.merged), a.sums + place * split_floats(16 * kSlabs, 8 * kTiles));
}

/// How a step is distributed over the device and laid out in shared memory.
struct Plan : DecodePlan {
  int key_table = 0, value_table = 0, stages = 0, merged = 0, warp_bytes = 0, shared_bytes = 0;
};

template <int kDim, int kTiles, int kCentreSlabs>
Plan make_plan(const TrellisLayer& layer, const DecodeAttention& step) {
  const int keys = layer.key_bits, values = layer.value_bits;
  Plan p;
  p.warp_bytes = std::max(
      trellis_block_bytes(kDim, keys, values, kCentreSlabs > 0) + (layer.packed.page_angles ? kDim * 4 : 0),
      merge_bytes(kDim, kTiles));
  p.key_table = p.value_table = shared_plan<kDim, kTiles>(layer.packed).end;
  if (layer.key_centroids != layer.value_centroids) p.value_table += look_up_bytes(keys, values);
  p.stages = p.value_table + look_up_bytes(values, keys);
  const int room = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - kStaticBytes;
  const int fit = (room - p.stages) / p.warp_bytes;
  static_cast<DecodePlan&>(p) =
      plan_decode(step, kTiles, std::min(kMostWarps<kTiles>, fit), kServedParts<kTiles, kCentreSlabs>);
  p.shared_bytes = p.stages + p.warps * p.warp_bytes;
  p.merged = kCentreSlabs > 0 ? p.key_table : p.stages;
  check(p.merged + p.warps * merge_bytes(kDim + 16 * kCentreSlabs, kTiles) <= p.shared_bytes,
        "trellis attention: no room for results");
  return p;
}

template <int kDim, int kTiles, int kCentreSlabs, int kKeyBits, int kValueBits>
void launch(const Arguments& a, const Plan& plan, int batch, const Stream& stream) {
  const auto launch_kernel = [&](auto kernel) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes),
               "shared memory");
    launch_early(kernel, dim3(plan.splits, a.layer.packed.n_kv_heads * plan.chunks, batch), 32 * plan.warps,
                 plan.shared_bytes, stream, "trellis attention", a);
  };
  if (plan.parts == 4) launch_kernel(trellis_kernel<kDim, kTiles, 4, kKeyBits, kValueBits, kCentreSlabs>);
  if constexpr (kServedParts<kTiles, kCentreSlabs> & 2)
    if (plan.parts == 2) launch_kernel(trellis_kernel<kDim, kTiles, 2, kKeyBits, kValueBits, kCentreSlabs>);
  if constexpr (kServedParts<kTiles, kCentreSlabs> & 1)
    if (plan.parts == 1) launch_kernel(trellis_kernel<kDim, kTiles, 1, kKeyBits, kValueBits, kCentreSlabs>);
}

/// Calls f with the bits as an integral_constant.
template <class F>
void with_trellis_bits(int bits, F f) {
  switch (bits) {
    case 2:
      return f(std::integral_constant<int, 2>());
    case 3:
      return f(std::integral_constant<int, 3>());
    case 4:
      return f(std::integral_constant<int, 4>());
    default:
      check(false, "trellis attention: bits");
  }
}

/// Calls f with the head dimension and the tiles of query heads as integral_constants.
template <class F>
void with_shape(const PackedLayer& layer, F f) {
  using One = std::integral_constant<int, 1>;
  using Two = std::integral_constant<int, 2>;
  const auto with_tiles = [&](auto dim) { narrow(layer) ? f(dim, One()) : f(dim, Two()); };
  check(layer.dim == 64 || layer.dim == 128, "trellis attention: head dimension");
  if (layer.dim == 64)
    with_tiles(std::integral_constant<int, 64>());
  else
    with_tiles(std::integral_constant<int, 128>());
}

template <int kDim, int kTiles, int kCentreSlabs>
int decode(const TrellisLayer& layer, const DecodeAttention& step, float* sums, const Stream& stream) {
  const Plan plan = make_plan<kDim, kTiles, kCentreSlabs>(layer, step);
  const Arguments a{layer,
                    step.cache,
                    static_cast<const uint16_t*>(step.q),
                    step.type == FloatType::bf16,
                    sums,
                    step.scale * kLog2e,
                    step.first_page,
                    plan.items,
                    layer.packed.n_heads / layer.packed.n_kv_heads,
                    plan.chunks,
                    plan.splits,
                    plan.warp_bytes,
                    attribute(cudaDevAttrComputeCapabilityMajor) >= 9 ? step.fresh : -1,
                    plan.key_table,
                    plan.value_table,
                    plan.stages,
                    plan.merged,
                    {}};
  with_trellis_bits(layer.key_bits, [&](auto key) {
    with_trellis_bits(layer.value_bits, [&](auto value) {
      launch<kDim, kTiles, kCentreSlabs, key.value, value.value>(a, plan, step.batch, stream);
    });
  });
  return plan.splits;
}

}  // namespace
}  // namespace blockgtq::cuda
