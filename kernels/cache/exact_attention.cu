// Attention of one new token per sequence over keys and values in fp16. packed_attention.cu is measured
// against it, and it serves the first and last positions beside packed ones.
//
//   s_t = scale (q . k_t),   o = sum_t p_t v_t / sum_t p_t,   p_t = 2^15 e^(s_t - max s)
//
// With a rule there is a kernel of its own (kRuled). It begins at the window's first position, and with a
// softcap c it has s_t = c tanh(scale (q . k_t) / c).
//
// Grid: splits of the context, KV heads, sequences. An item is 16 positions of one head, which are one copy
// of 64 D bytes (cache/exact_page.h). A warp takes every W-th item of its block's split and works alone: it
// has its own stages of shared memory, and its own running maximum, sum and output. The heads of the group
// are the 8 columns of mma:
//
//   S^T (positions, heads)  = K (positions, D) q^T (D, heads)
//   O^T (D, heads)         += V^T (D, positions) P^T (positions, heads)
//
// Weights are fp16 in the second product. The largest possible is 2^15, so that a weight of 2^-29 of it has
// all its digits, and one of 2^-39 still counts.
//
// Bytes moved: 4 D per position. 192 KB of them are in flight on every multiprocessor. At 1.5 us to
// memory and back 48 KB would do if loads were spread evenly.
#include <algorithm>

#include "cache/exact_page.h"
#include "kernels/cache/exact_attention.h"
#include "kernels/cache/splits.cuh"
#include "kernels/cache/unpack.cuh"
#include "kernels/device/float_type.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kStages = 3;
constexpr float kHeadroom = 15;

/// The most warps of a block: their stages take 192 KB at any head dimension.
template <int kDim>
constexpr int kMostWarps = 1024 / kDim;

struct Arguments {
  PageTable cache;
  int64_t page_bytes;
  const uint16_t* q;
  bool bf16;    // q is
  float* sums;  // SplitSums
  float scale;  // times log2(e)
  int n_heads, group, chunks, splits, warp_bytes;
  int items;    // of the longest sequence
  bool beside;  // the preceding kernel reads the same, and this one runs beside it
  AttentionRule rule;
  int n_first;  // ExactPages::first
  float inner;  // scale / softcap
};

/// The first of a sequence's `length` exact positions that its query sees.
__device__ inline int first_seen(const Arguments& a, int sequence, int length) {
  if (a.rule.window == 0) return 0;
  const int window = int(min(a.rule.window, int64_t(INT32_MAX))), all = a.rule.positions[sequence] + 1;
  // Either the window lies within the last positions, or it reaches the first ones, or it
  // begins between them.
  return window <= length - a.n_first ? length - window : max(0, min(a.n_first, all - window));
}

/// Applies the rule to the scores of an item: positions before `skip` are not seen. With a softcap a.scale
/// does not contain the scale.
template <int kTiles>
__device__ inline void apply_rule(const Arguments& a, int skip, float (&s)[kTiles][4]) {
  const int r = threadIdx.x % 32 / 4;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (a.rule.softcap > 0) s[tile][j] = a.rule.softcap * tanhf(s[tile][j] * a.inner);
      if (8 * (j / 2) + r < skip) s[tile][j] = -INFINITY;
    }
}

template <int kDim, int kTiles, bool kRuled>
__global__ void __launch_bounds__(32 * kMostWarps<kDim>) exact_kernel(const Arguments a) {
  constexpr int kSlabs = kDim / 16, kItemBytes = exact_part_bytes(kDim);
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ uint64_t barriers[kMostWarps<kDim>][kStages];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4,
            n_warps = blockDim.x / 32;
  const int kv_head = blockIdx.y / a.chunks, chunk = blockIdx.y % a.chunks, sequence = blockIdx.z;
  const int first_head = kv_head * a.group + chunk * 8 * kTiles;
  const int n_heads = min(8 * kTiles, a.group - chunk * 8 * kTiles);
  unsigned char* const stages = shared + warp * a.warp_bytes;
  Arrivals<kStages> arrivals(barriers[warp]);
  // Beside another kernel there is no need to wait: that kernel had waited for all before it when it let this
  // one start. What they wrote is in L2. L1 may still hold what was there before, hence __ldcg.
  if (!a.beside) wait_for_predecessor();

  // Splits are cut by the longest possible context, so that the block table is read together with the
  // length, not after it.
  const int length = __ldcg(a.cache.lengths + sequence);
  const int seen = kRuled ? first_seen(a, sequence, length) : 0;
  const Range range = items_of(seen / kPartPositions, a.items, blockIdx.x, a.splits);
  const int first = range.first + warp;
  // Counted from a window's first position, the largest possible number of items may exceed those that exist
  // and have pages.
  const int listed = kRuled ? min(range.last, (length + kPartPositions - 1) / kPartPositions) : range.last;
  const int32_t* const pages = a.cache.block_table + sequence * a.cache.stride;
  int ids[kStages];
#pragma unroll
  for (int n = 0; n < kStages; ++n)
    ids[n] = first + n * n_warps < listed ? __ldcg(pages + (first + n * n_warps) / kPageParts) : 0;
  const uint16_t* q = a.q + (int64_t(sequence) * a.n_heads + first_head) * kDim;
  uint32_t b[kTiles][kSlabs][2];  // loaded before the pages, which would delay it
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        b[tile][slab][i] = 8 * tile + r < n_heads
                               ? to_halves(__ldcg(reinterpret_cast<const unsigned*>(
                                               q + (8 * tile + r) * kDim + 16 * slab + 8 * i + 2 * c)),
                                           a.bf16)
                               : 0;
  const int last = min(range.last, (length + kPartPositions - 1) / kPartPositions);
  const uint8_t* const block = a.cache.pages + int64_t(kv_head) * exact_block_bytes(kDim);
  const auto load = [&](int item, int stage, int id) {
    if (item < last) {
      arrivals.expect(stage, kItemBytes);
      arrivals.copy(stage, stages + stage * kItemBytes,
                    block + id * a.page_bytes + item % kPageParts * kItemBytes, kItemBytes);
    }
    arrivals.commit();
  };
#pragma unroll
  for (int n = 0; n < kStages; ++n) load(first + n * n_warps, n, ids[n]);
  let_successor_start();

  State<kSlabs, kTiles> state;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j) state.m[tile][j] = -1e30f, state.l[tile][j] = 0;
#pragma unroll 1
  for (int n = 0; first + n * n_warps < last; ++n) {
    const int item = first + n * n_warps, stage = n % kStages, next = item + kStages * n_warps;
    const int valid = length - item * kPartPositions;
    const int next_id = next < last ? __ldcg(pages + next / kPageParts) : 0;
    uint4* const keys = reinterpret_cast<uint4*>(stages + stage * kItemBytes) + lane;
    uint4* const values = keys + kSlabs * 32;
    arrivals.wait(stage, n / kStages);

    float s[kTiles][4], other[kTiles][4];  // positions r (first two) and 8 + r, heads 2 c and 2 c + 1
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      const uint4 x = keys[slab * 32];
      const uint32_t k[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        auto& sum = slab % 2 ? other[tile] : s[tile];  // two chains of products halve the latency
        if (slab < 2)
          mma_first(sum, k, b[tile][slab][0], b[tile][slab][1]);
        else
          mma(sum, k, b[tile][slab][0], b[tile][slab][1]);
      }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) s[tile][j] += other[tile][j];
    if constexpr (kRuled) apply_rule(a, seen - item * kPartPositions, s);
    if (valid < kPartPositions) {  // memory behind the last position may hold anything
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (8 * (j / 2) + r >= valid) s[tile][j] = -INFINITY;
      const auto keep = [&](int position) {
        return (position < valid ? 0xffffu : 0u) | (position + 1 < valid ? 0xffff0000u : 0u);
      };
      const uint32_t low = keep(2 * c), high = keep(8 + 2 * c);
#pragma unroll 1
      for (int slab = 0; slab < kSlabs; ++slab) {
        const uint4 x = values[slab * 32];
        values[slab * 32] = {x.x & low, x.y & low, x.z & high, x.w & high};
      }
    }

    bool grown = false;
    float shrink[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float most = fmaxf(s[tile][j], s[tile][j + 2]);
#pragma unroll
        for (int apart = 4; apart < 32; apart *= 2) most = fmaxf(most, __shfl_xor_sync(kAll, most, apart));
        const float m = fmaxf(state.m[tile][j], fmaf(most, a.scale, -kHeadroom));
        grown |= m > state.m[tile][j];
        shrink[tile][j] = exp2_fast(state.m[tile][j] - m);
        state.m[tile][j] = m;
      }
    if (__any_sync(kAll, grown)) shrink_state(state, shrink);
    uint32_t w[kTiles][2];  // positions 2 c, 2 c + 1 of the first and second eight, head r
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        s[tile][j] = exp2_fast(fmaf(s[tile][j], a.scale, -state.m[tile][j % 2]));
        state.l[tile][j % 2] += s[tile][j];
      }
      w[tile][0] = transpose8(pack2(s[tile][0], s[tile][1]));
      w[tile][1] = transpose8(pack2(s[tile][2], s[tile][3]));
    }
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      const uint4 x = values[slab * 32];
      const uint32_t v[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) mma(state.o[slab][tile], v, w[tile][0], w[tile][1]);
    }
    __syncwarp();
    load(next, stage, next_id);
  }
  const int64_t place = (int64_t(sequence) * gridDim.y + blockIdx.y) * a.splits + blockIdx.x;
  merge_warps<kSlabs, kTiles>(state, n_warps, false, reinterpret_cast<float*>(shared),
                              a.sums + place * split_floats(kDim, 8 * kTiles));
  // The merge waits for this kernel only. So it has to end after the other one.
  if (a.beside) wait_for_predecessor();
}

/// How a step is distributed over the device.
struct Plan {
  int chunks = 1, splits = 1, warps = 1, items = 1, warp_bytes = 0;
};

int group_of(const ExactAttention& step) {
  return step.n_heads / step.n_kv_heads;
}

Plan make_plan(const ExactAttention& step, bool beside) {
  Plan p;
  const int heads = heads_per_chunk(group_of(step)), part = exact_part_bytes(step.dim);
  p.chunks = (group_of(step) + heads - 1) / heads;
  const int room = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - kStaticBytes;
  const int sms = attribute(cudaDevAttrMultiProcessorCount);
  const int merged = merge_bytes(step.dim, heads / 8);
  const int most = std::min(1024 / step.dim, room / std::max(kStages * part, merged));
  check(most >= 1, "exact_attention: no room for a page");
  const int64_t items = (step.pages.longest + kPartPositions - 1) / kPartPositions;
  p.items = int(std::max<int64_t>(1, step.rule.stretches(items, kPartPositions)));
  const int64_t blocks = int64_t(step.n_kv_heads) * p.chunks * step.batch;
  const int64_t splits = beside ? std::clamp<int64_t>(sms / blocks, 1, kMostSplitsBeside)
                                : splits_on(sms, blocks, int64_t(step.n_heads) * step.batch, p.items, most);
  p.warps = int(std::clamp<int64_t>((p.items + splits - 1) / splits, std::min(4, most), most));
  p.splits = int(std::min<int64_t>(splits, (p.items + p.warps - 1) / p.warps));
  // Few items need few stages. So a short window finds room beside the other kernel.
  const int each = ((p.items + p.splits - 1) / p.splits + p.warps - 1) / p.warps;
  p.warp_bytes = (std::max(std::min(kStages, each) * part, merged) + 127) / 128 * 128;
  return p;
}

template <int kDim, int kTiles, bool kRuled>
void launch(const ExactAttention& step, const Plan& plan, bool beside, float* sums, const Stream& stream) {
  const auto kernel = exact_kernel<kDim, kTiles, kRuled>;
  const float cap = step.rule.softcap;
  const Arguments a{step.pages.cache,
                    exact_page_bytes(step.n_kv_heads, kDim),
                    static_cast<const uint16_t*>(step.q),
                    step.type == FloatType::bf16,
                    sums,
                    (cap > 0 ? 1 : step.scale) * kLog2e,
                    step.n_heads,
                    group_of(step),
                    plan.chunks,
                    plan.splits,
                    plan.warp_bytes,
                    plan.items,
                    beside,
                    step.rule,
                    int(step.pages.first),
                    cap > 0 ? step.scale / cap : 0};
  const int shared_bytes = plan.warps * plan.warp_bytes;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
             "shared memory");
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared),
             "shared memory");
  launch_early(kernel, dim3(plan.splits, step.n_kv_heads * plan.chunks, step.batch), 32 * plan.warps,
               shared_bytes, stream, "exact attention", a);
}

template <int kDim>
void launch(const ExactAttention& step, const Plan& plan, bool beside, float* sums, const Stream& stream) {
  const bool narrow = group_of(step) <= 8, ruled = step.rule.of_kernels();
  const auto with = narrow  ? ruled ? launch<kDim, 1, true> : launch<kDim, 1, false>
                     : ruled ? launch<kDim, 2, true>
                            : launch<kDim, 2, false>;
  with(step, plan, beside, sums, stream);
}

/// Launches the kernel. Returns the splits that it leaves in `sums`.
SplitSums partial(const ExactAttention& step, bool beside, float* sums, const Stream& stream) {
  check(step.q && step.type != FloatType::f32 && sums && step.batch > 0 && step.batch <= 65535 &&
            step.n_heads % step.n_kv_heads == 0,
        "exact_attention: arguments");
  check(aligned(step.pages.cache.pages, 16), "exact_attention: alignment of pages");
  const Plan plan = make_plan(step, beside);
  check(step.rule.window == 0 || step.rule.positions, "exact_attention: a window without positions");
  with_dim(step.dim, [&](auto dim) { launch<dim.value>(step, plan, beside, sums, stream); });
  return {sums, plan.splits};
}

/// A thread takes 16-byte pieces of squares of keys or values: eight numbers of one lane.
template <class T>
__global__ void append_kernel(const AppendExact a, int64_t page_bytes) {
  wait_for_predecessor();
  let_successor_start();
  const int head = blockIdx.y, sequence = blockIdx.z, start = a.starts[sequence];
  const int part = start / kPartPositions + int(blockIdx.x), at = part * kPartPositions;
  const int from = max(start - at, 0), to = min(start + int(a.tokens) - at, kPartPositions);
  if (from >= to) return;
  const int page = a.cache.block_table[sequence * a.cache.stride + part / kPageParts];
  uint4* const pieces =
      reinterpret_cast<uint4*>(a.pages + page * page_bytes + int64_t(head) * exact_block_bytes(a.dim) +
                               part % kPageParts * exact_part_bytes(a.dim));
  const int each = a.dim / 16 * 32;  // pieces of keys, and of values
  const int64_t token_stride = int64_t(a.n_kv_heads) * a.dim;
  for (int piece = threadIdx.x; piece < 2 * each; piece += blockDim.x) {
    const bool keys = piece < each;
    const int square = piece % each / 32, r = piece % 32 / 4, c = piece % 4;
    const T* x = static_cast<const T*>(keys ? a.k : a.v) +
                 (int64_t(sequence) * a.tokens + at - start) * token_stride + head * a.dim + 16 * square;
    __align__(16) __half number[8];
    uint32_t present = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = r + i / 2 % 2 * 8, column = 2 * c + i / 4 * 8 + i % 2;
      const int position = keys ? row : column, coordinate = keys ? column : row;
      if (position < from || position >= to) continue;
      number[i] = to_half(to_float(x[position * token_stride + coordinate]));
      present |= 1u << i;
    }
    if (present == 0xffu) {
      pieces[piece] = *reinterpret_cast<const uint4*>(number);
      continue;
    }
    __half* const place = reinterpret_cast<__half*>(pieces + piece);
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (present >> i & 1) place[i] = number[i];
  }
}

}  // namespace

int64_t exact_sums_bytes(const ExactAttention& step) {
  return split_sums_bytes(step.dim, step.n_heads, step.n_kv_heads, step.batch, make_plan(step, true).splits);
}

SplitSums exact_sums(const ExactAttention& step, float* sums, const Stream& stream) {
  return partial(step, true, sums, stream);
}

int64_t exact_scratch_bytes(const ExactAttention& step) {
  return split_sums_bytes(step.dim, step.n_heads, step.n_kv_heads, step.batch, make_plan(step, false).splits);
}

void exact_attention(const ExactAttention& step, void* scratch, const Stream& stream) {
  check(step.out != nullptr, "exact_attention: arguments");
  MergeSplits merge;
  merge.dim = step.dim;
  merge.n_heads = step.n_heads;
  merge.n_kv_heads = step.n_kv_heads;
  merge.batch = step.batch;
  merge.exact = partial(step, false, static_cast<float*>(scratch), stream);
  merge.sinks = step.rule.sinks;
  merge.out = step.out;
  merge.type = step.type;
  merge_splits(merge, stream);
}

void append_exact(const AppendExact& job, const Stream& stream) {
  check(job.pages && job.pages == job.cache.pages && job.starts && job.k && job.v && job.batch > 0 &&
            job.batch <= 65535 && job.tokens >= 0 && job.dim > 0 && job.dim % 16 == 0 &&
            aligned(job.pages, 16),
        "append_exact: arguments");
  if (job.tokens == 0) return;
  const dim3 grid(unsigned((job.tokens + 2 * (kPartPositions - 1)) / kPartPositions), job.n_kv_heads,
                  job.batch);
  with_type(job.type, [&](auto* type) {
    launch_early(append_kernel<std::remove_pointer_t<decltype(type)>>, grid, 256, 0, stream, "append exact",
                 job, exact_page_bytes(job.n_kv_heads, job.dim));
  });
}

}  // namespace blockgtq::cuda
