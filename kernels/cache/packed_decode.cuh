// Attention of one new token per sequence over packed keys and values.
//
//   k_t = R_t mean + r_t B z_t
//   s_t = scale (q . k_t) = scale (r_t (B^T q) . c[code] + (R_t^-1 q) . mean)
//   o   = B_v (sum_t p_t r_t c[code]) / sum_t p_t + mean_v,   p_t = e^(s_t - m)
//
// Where a position keeps its mean, as the sign bit of its norm says, the terms with the mean are missing:
// mean_v is multiplied by the share of the weights that all other positions have.
//
// So the quantizer's rotations, permutations and scales touch q once and o once, and the inner loop knows of
// codes and norms only.
//
// Grid: splits of the context, KV heads, sequences. A warp takes every W-th item of its block's split and
// works alone: it has its own two stages of shared memory, and its own running maximum, sum and output. An
// item is a page, or half or a quarter of one where there are too few pages for all warps.
//
// For an item, codes become bytes in registers as the A fragment (unpack.cuh; cache/page_layout.h has the
// order). The heads of the group are the 8 columns of mma:
//
//   S^T (positions, heads)  = K (positions, D) q^T (D, heads)
//   O^T (D, heads)         += V^T (D, positions) P^T (positions, heads)
//
// q and the weights p_t r_t are fixed-point numbers of 16 bits. Their high and low bytes are multiplied
// separately and added up exactly, as integers. The accumulators start from the integer whose bits read
// 1.5 x 2^23 as float32, so that a sum needs no conversion. Slabs with codes of more than 4 bits take
// the fp16 product.
//
// With a window the items begin at its first position, which follows from the sequence's length. What a
// warp's first item has before that is masked. With a softcap c a score s becomes c tanh(s / c).
//
// At the end the results of warps are combined in shared memory, and those of splits in merge.cu, which also
// multiplies with B_v. Where values have centres, mean_v is that of their position, and the sums of weights
// by centre are further rows of O^T (value_centres.cuh). Exact positions beside the packed ones are splits of
// exact_attention.cu.
//
// Bytes moved: the block of every page once. At K3V3 and D = 128 that is 6400 bytes per 64 positions.
#pragma once
#include <algorithm>

#include "cache/page_layout.h"
#include "kernels/cache/decode_step.cuh"
#include "kernels/cache/packed_attention.h"
#include "kernels/cache/packed_step.cuh"
#include "kernels/cache/packed_values.cuh"
#include "kernels/cache/value_centres.cuh"
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/range.cuh"

namespace blockgtq::cuda {

/// Attention over packed pages with a window or a softcap; returns the number of splits it leaves in `sums`.
int decode_ruled(const DecodeAttention& step, float* sums, const Stream& stream);
/// The same where values have centres, under any rule.
int decode_centres(const DecodeAttention& step, float* sums, const Stream& stream);

namespace {

constexpr int kStages = 2;  // stages of a warp
/// The most warps of a block, by their registers. More are not faster (measured).
template <int kDim, int kTiles>
constexpr int kMostWarps = kTiles == 2 || kDim > 128 ? 8 : 12;

struct Arguments {
  PackedLayer layer;
  PageTable cache;
  const uint16_t* q;
  bool bf16;              // q is
  float* sums;            // SplitSums
  float scale;            // times log2(e)
  int first_page, items;  // of the longest sequence, from its first page on
  int group, chunks, splits, stage_bytes, warp_bytes;
  int fresh;  // DecodeAttention::fresh
  AttentionRule rule;
};

/// The first position that a sequence's query sees.
__device__ inline int first_seen(const Arguments& a, int sequence) {
  if (a.rule.window == 0) return 0;
  return max(0, a.rule.positions[sequence] + 1 - int(min(a.rule.window, int64_t(INT32_MAX))));
}

/// s = cap tanh(inner s). inner: of heads 2 c and 2 c + 1.
template <int kTiles, int kParts>
__device__ inline void cap_scores(Scores<kTiles, kParts>& s, float cap, const float (&inner)[kTiles][2]) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) s[tile][i][j] = cap * tanhf(s[tile][i][j] * inner[tile][j % 2]);
}

/// Masks the positions of a page before `skip`.
template <int kTiles, int kParts>
__device__ inline void mask_before(Scores<kTiles, kParts>& s, int part, int skip) {
  const int r = threadIdx.x % 32 / 4;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (16 * (part + i) + 8 * (j / 2) + r < skip) s[tile][i][j] = -INFINITY;
}

/// kParts: tiles of 16 positions in an item, 4 (a page), 2 or 1. kKeyBits, kValueBits: see Widths. kRuled:
/// there is a window, a softcap or both. For these kernels one block per multiprocessor is stated. Otherwise
/// the compiler spills some of them to make room for more. kCentreSlabs: centre_slabs().
template <int kDim, int kTiles, int kParts, int kKeyBits, int kValueBits, bool kRuled, int kCentreSlabs>
__global__ void __launch_bounds__(32 * kMostWarps<kDim, kTiles>, kRuled || kCentreSlabs > 0 ? 1 : 0)
    decode_kernel(const Arguments a) {
  constexpr int kValueSlabs = kDim / 16, kItems = 4 / kParts;  // items of a page
  constexpr int kSlabs = kValueSlabs + kCentreSlabs;           // of the result
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ uint64_t barriers[kMostWarps<kDim, kTiles>][kStages];
  const int warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  const int kv_head = blockIdx.y / a.chunks, chunk = blockIdx.y % a.chunks, sequence = blockIdx.z;
  const SharedPlan plan = shared_plan<kDim, kTiles>(a.layer);
  const PackedTable& in_table =
      *reinterpret_cast<const PackedTable*>(a.layer.tables + int64_t(kv_head) * a.layer.table_bytes);
  const int block_offset = in_table.block_offset, block_bytes = in_table.block_bytes;
  const int first_head = kv_head * a.group + chunk * 8 * kTiles;
  const int n_heads = min(8 * kTiles, a.group - chunk * 8 * kTiles);
  const uint16_t* q = a.q + (int64_t(sequence) * a.layer.n_heads + first_head) * kDim;
  const Queries queries = queries_at(plan, shared);
  const uint4* mean = reinterpret_cast<const uint4*>(shared + plan.mean);
  // Nothing waits for the table before the queries are here. Such a wait would delay the loads that follow.
  load_constants<kDim, kTiles>(a.layer, kv_head, plan, shared, kKeyBits <= 0);
  unsigned char* const stages = shared + plan.end + warp * a.warp_bytes;
  Arrivals<kStages> arrivals(barriers[warp]);
  // Splits are cut by the longest possible context, so that the block table is read together with the
  // length, not after it.
  int seen = 0, first_item = a.first_page * kItems;
  if constexpr (kRuled) {
    seen = first_seen(a, sequence);
    first_item = max(first_item, seen / (16 * kParts));
  }
  const Range range = items_of(first_item, a.items, blockIdx.x, a.splits);
  const int first = range.first + warp;
  const int32_t* const pages = a.cache.block_table + sequence * a.cache.stride;
  int length = 0, ids = 0;  // ids: pages of this warp's items, one per lane
  const auto read_ids = [&](int n) {
    const int item = first + (n + int(threadIdx.x % 32)) * n_warps;
    // Counted from a window's first position, the largest possible number of items may exceed those that
    // exist and have pages.
    if (item < (kRuled ? min(range.last, (length + 16 * kParts - 1) / (16 * kParts)) : range.last))
      ids = pages[item / kItems];
  };
  const auto read_lengths = [&] {
    length = a.cache.lengths[sequence];
    read_ids(0);
  };
  if (a.fresh >= 0) read_lengths();
  QueryMap<kDim, kKeyBits> map;
  map.load(a.layer, kv_head, warp);
  map.load_weights(a.layer, kv_head);
  if (a.fresh < 0) {
    wait_for_predecessor();
    read_lengths();
  }
  const int last = min(range.last, (length + 16 * kParts - 1) / (16 * kParts));
  const auto load = [&](int n) {  // loads this warp's n-th item
    const int item = first + n * n_warps, stage = n % kStages, id = __shfl_sync(kAll, ids, n % 32);
    if (item < last) {
      unsigned char* to = stages + stage * a.stage_bytes;
      const int angle_bytes = a.layer.page_angles ? kDim * 4 : 0;
      arrivals.expect(stage, block_bytes + angle_bytes);
      arrivals.copy(stage, to, a.cache.pages + id * a.layer.page_bytes + block_offset, block_bytes);
      if (angle_bytes)
        arrivals.copy(stage, to + a.stage_bytes - angle_bytes,
                      a.layer.page_angles + int64_t(item / kItems) * kDim, angle_bytes);
    }
    arrivals.commit();
  };
  // What the preceding kernel does not write is loaded while that one ends. It is one page per warp, since
  // more would keep that kernel's last loads waiting.
  const bool early = first < max(length - a.fresh, 0) / kPagePositions * kItems && a.fresh >= 0;
  if (early) load(0);
  HeldGroups groups;  // a chain of three loads, which the end of the preceding kernel hides
  if constexpr (kKeyBits == kSeveral) groups.read(reinterpret_cast<const uint8_t*>(&in_table));
  if (a.fresh >= 0) wait_for_predecessor();
  load_queries<kDim, kTiles>(q, a.bf16, n_heads, reinterpret_cast<__half*>(shared + plan.rows));
  if (!early) load(0);
#pragma unroll
  for (int n = 1; n < kStages; ++n) load(n);
  wait_for_lines();
  __syncthreads();
  const __half* const rows = reinterpret_cast<const __half*>(shared + plan.rows);
  prepare_queries<kDim, kTiles, kKeyBits>(a.layer, kv_head, rows, map, queries);
  if (a.layer.key_mean) prepare_plain<kDim, kTiles>(a.layer, rows, queries.plain);
  __syncthreads();
  let_successor_start();
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(shared);
  const HeldTable<kKeyBits, kValueBits> table(shared);

  const Zero zero = {kept(kZero), kept(kZero), kept(kZero), kept(kZero)};
  State<kSlabs, kTiles> state;
  float factor[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      factor[tile][j] =
          fmaxf(queries.bounds[2 * (8 * tile + threadIdx.x % 4 * 2 + j)] * t.query_scale * a.scale, 1e-30f);
      state.m[tile][j] = -1e30f;
      state.l[tile][j] = 0;
    }
  [[maybe_unused]] const float cap = a.rule.softcap * kLog2e;
  [[maybe_unused]] float inner[kTiles][2];
  if constexpr (kRuled) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        inner[tile][j] = factor[tile][j] / cap;
        if (cap > 0) factor[tile][j] = 1;
      }
  }
#pragma unroll 1
  for (int n = 0; first + n * n_warps < last; ++n) {
    const int item = first + n * n_warps, page = item / kItems, part = item % kItems * kParts;
    const int stage = n % kStages, valid = length - page * kPagePositions;
    if ((n + kStages) % 32 == 0) read_ids(n + kStages);
    const unsigned char* block = stages + stage * a.stage_bytes;
    Sums<kTiles, kParts> high, low;
    if constexpr (kKeyBits == kSeveral) reset(high, low, zero, groups);
    arrivals.wait(stage, n / kStages);
    float s[kTiles][kParts][4] = {};
    uint32_t pair[4];
    if constexpr (kKeyBits > 0)
      score_uniform<kDim, kTiles, kParts, kKeyBits>(s, block, table, queries, part, valid, zero);
    else if constexpr (kKeyBits == kSeveral)
      score_widths<kTiles, kParts>(s, high, low, block, groups, table.key_norms, queries, part, valid, zero);
    else
      score_groups<kTiles, kParts>(s, block, shared, t, queries, part, valid, zero);
    if (a.layer.key_mean)
      score_mean<kDim, kTiles, kParts>(s, block + table.key_norms,
                                       reinterpret_cast<const float4*>(block + a.stage_bytes - kDim * 4),
                                       queries, mean, t.query_scale, part);
    if constexpr (kRuled) {
      if (cap > 0) cap_scores<kTiles, kParts>(s, cap, inner);
      mask_before<kTiles, kParts>(s, part, seen - page * kPagePositions);
    }
    if (valid < kPagePositions) mask<kTiles, kParts>(s, part, valid);
    Weights<kTiles, kParts> w;
    load_norms(pair, block + table.value_norms, threadIdx.x % 32 / 4, valid);
    weigh<kSlabs, kTiles, kParts>(state, s, factor, pair, part, n == 0,
                                  kCentreSlabs == 0 && a.layer.value_mean, w);
    if constexpr (kCentreSlabs > 0)
      add_to_centres<kCentreSlabs>(state, s, w, pair, part, block + t.value_centres);
    add_values<kValueSlabs, kTiles, kParts, kKeyBits, kValueBits>(state, block, shared, table, w, part, zero);
    __syncwarp();
    load(n + kStages);
  }
  const int64_t place = (int64_t(sequence) * gridDim.y + blockIdx.y) * a.splits + blockIdx.x;
  merge_warps<kSlabs, kTiles, kCentreSlabs>(
      state, max(1, min(n_warps, last - range.first)), kCentreSlabs == 0 && a.layer.value_mean,
      reinterpret_cast<float*>(shared + plan.end), a.sums + place * split_floats(16 * kSlabs, 8 * kTiles));
}

/// How a step is distributed over the device.
struct Plan : DecodePlan {
  int stage_bytes = 0, warp_bytes = 0, shared_bytes = 0;
};

template <int kDim, int kTiles, int kCentreSlabs>
Plan make_plan(const DecodeAttention& step) {
  const PackedLayer& layer = *step.layer;
  Plan p;
  p.stage_bytes = (layer.block_bytes + (layer.page_angles ? kDim * 4 : 0) + 127) / 128 * 128;
  const int merged = merge_bytes(kDim + 16 * kCentreSlabs, kTiles);
  p.warp_bytes = (std::max(kStages * p.stage_bytes, merged) + 127) / 128 * 128;
  const int fixed = shared_plan<kDim, kTiles>(layer).end;
  const int room = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - kStaticBytes;
  const int fit = (room - fixed) / p.warp_bytes;
  static_cast<DecodePlan&>(p) =
      plan_decode(step, kTiles, std::min(kMostWarps<kDim, kTiles>, fit), kServedParts<kTiles, kCentreSlabs>);
  p.shared_bytes = fixed + p.warps * p.warp_bytes;
  return p;
}

template <int kDim, int kTiles, int kParts, int kKeyBits, int kValueBits, bool kRuled, int kCentreSlabs>
void launch(const DecodeAttention& step, const Arguments& a, const Plan& plan, const Stream& stream) {
  const auto kernel = decode_kernel<kDim, kTiles, kParts, kKeyBits, kValueBits, kRuled, kCentreSlabs>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes),
             "shared memory");
  launch_early(kernel, dim3(plan.splits, step.layer->n_kv_heads * plan.chunks, step.batch), 32 * plan.warps,
               plan.shared_bytes, stream, "decode attention", a);
}

/// Calls f with the common width of keys and values as an integral_constant, where values with centres have
/// a kernel of their own for it. Returns whether it did.
template <int kDim, int kTiles, int kCentreSlabs, class F>
bool with_common_width(const DecodeAttention& step, F f) {
  if constexpr (kDim == 128 && kTiles == 1 && kCentreSlabs > 0) {
    const int bits = step.layer->uniform_key;
    if (bits != step.layer->uniform_value || step.rule.of_kernels()) return false;
    if (bits == 2) return f(std::integral_constant<int, 2>()), true;
    if (bits == 3) return f(std::integral_constant<int, 3>()), true;
    if (bits == 4) return f(std::integral_constant<int, 4>()), true;
  }
  return false;
}

/// kRuled: one kernel serves all widths, and layers without rules where values have centres. Otherwise widths
/// have their own.
template <int kDim, int kTiles, int kParts, bool kRuled, int kCentreSlabs>
void decode(const DecodeAttention& step, const Arguments& a, const Plan& plan, const Stream& stream) {
  if constexpr (kRuled) {
    const bool taken = with_common_width<kDim, kTiles, kCentreSlabs>(step, [&](auto bits) {
      launch<kDim, kTiles, kParts, bits.value, bits.value, false, kCentreSlabs>(step, a, plan, stream);
    });
    if (!taken) launch<kDim, kTiles, kParts, 0, 0, true, kCentreSlabs>(step, a, plan, stream);
  } else {
    with_layer_widths<kDim, kTiles>(*step.layer, [&](auto widths) {
      launch<kDim, kTiles, kParts, widths.key, widths.value, false, 0>(step, a, plan, stream);
    });
  }
}

/// Launches the kernel. Returns the number of splits.
template <int kDim, int kTiles, bool kRuled, int kCentreSlabs>
int decode(const DecodeAttention& step, float* sums, const Stream& stream) {
  const Plan plan = make_plan<kDim, kTiles, kCentreSlabs>(step);
  const PackedLayer& layer = *step.layer;
  const Arguments a{layer,
                    step.cache,
                    static_cast<const uint16_t*>(step.q),
                    step.type == FloatType::bf16,
                    sums,
                    step.scale * kLog2e,
                    step.first_page,
                    plan.items,
                    layer.n_heads / layer.n_kv_heads,
                    plan.chunks,
                    plan.splits,
                    plan.stage_bytes,
                    plan.warp_bytes,
                    attribute(cudaDevAttrComputeCapabilityMajor) >= 9 ? step.fresh : -1,
                    step.rule};
  const auto with_parts = [&](auto parts) {
    decode<kDim, kTiles, parts.value, kRuled, kCentreSlabs>(step, a, plan, stream);
  };
  if (plan.parts == 4) with_parts(std::integral_constant<int, 4>());
  if constexpr (kServedParts<kTiles, kCentreSlabs> & 2)
    if (plan.parts == 2) with_parts(std::integral_constant<int, 2>());
  if constexpr (kServedParts<kTiles, kCentreSlabs> & 1)
    if (plan.parts == 1) with_parts(std::integral_constant<int, 1>());
  return plan.splits;
}

}  // namespace
}  // namespace blockgtq::cuda
