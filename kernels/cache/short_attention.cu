// Attention of one new token per sequence over short packed contexts, in one launch. Mathematics and operands
// are those of packed_attention.cu. In that file the second kernel and the combining of warps take most of a
// short context's time.
//
// Grid: a cluster of blocks per KV head and eight query heads of its group; sequences. The pages of a
// sequence are divided among the blocks of its cluster. A block holds all of its pages at once.
//
//   scores   a warp takes a page, or half of one; then the block agrees on the largest score
//   weights  are relative to that, for all positions of the block, as B operands in shared memory
//   values   a warp takes a slab of rows, and all pages of the block or every second one; the sums are
//            integers, and no running result has to be scaled
//   heads    a block finishes one head, or half of a head's outputs: all blocks send it what they have,
//            straight into its shared memory; it adds up and multiplies with B_v
//
// Bytes moved: the block of every page once.
#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "cache/page_layout.h"
#include "kernels/cache/packed_step.cuh"
#include "kernels/cache/short_attention.h"
#include "kernels/cache/short_values.cuh"
#include "kernels/cache/turn_back.cuh"
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/launch.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kHeads = 8;  // query heads of a cluster, which has as many blocks or twice as many

/// Warps that take the same slab of values, each for its share of the pages.
template <int kDim>
constexpr int kShares = kWarps * 16 > kDim ? kWarps * 16 / kDim : 1;

/// The pitch of a head's outputs, in floats: as they are sent (followed by the largest score, the sum of
/// weights, that of positions which do not keep their mean, and one unused) and as they arrive, on
/// different banks.
template <int kDim>
constexpr int kSentPitch = kDim + 4;
template <int kDim>
constexpr int kArrivedPitch = kDim + 16;

/// At least the static shared memory of the kernels.
constexpr int kStaticShared = sizeof(Exchange) + 2048;

struct Arguments {
  PackedLayer layer;
  PageTable cache;
  const uint16_t* q;
  void* out;
  bool bf16;          // both are
  float scale;        // times log2(e)
  int pages;          // of the longest sequence
  int group, chunks;  // of query heads
  int stage_bytes;
  int weights, sent, arrived, back;  // offsets in shared memory
  int fresh;                         // DecodeAttention::fresh
};

/// kParts: tiles of 16 positions in an item, 4 (a page) or 2. kKeyBits, kValueBits: see Widths. Two blocks
/// per multiprocessor are stated, although one is resident: left to itself the compiler spills to make
/// room for four.
template <int kDim, int kParts, int kKeyBits, int kValueBits>
__global__ void __launch_bounds__(32 * kWarps, 2) short_kernel(const Arguments a) {
  constexpr int kSlabs = kDim / 16, kItems = 4 / kParts;  // items of a page
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ uint64_t barriers[kMostPages], all_sent;
  __shared__ Exchange exchange;
  __shared__ float outputs[kDim];  // of the head that this block finishes
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4;
  const int blocks = gridDim.x, rank = blockIdx.x, sequence = blockIdx.z;
  const int kv_head = blockIdx.y / a.chunks, chunk = blockIdx.y % a.chunks;
  const int first_head = kv_head * a.group + chunk * kHeads, n_heads = min(kHeads, a.group - chunk * kHeads);
  // Whether a head's outputs are halved, and the head that this block finishes.
  const int halves = blocks > kHeads, ending = rank >> halves;
  const int columns = kDim >> halves, first_column = (rank & halves) * columns;
  const int value_rows = 16 * a.layer.value_slabs;
  const SharedPlan plan = shared_plan<kDim, 1>(a.layer);
  const Queries queries = queries_at(plan, shared);
  const PackedTable& in_table =
      *reinterpret_cast<const PackedTable*>(a.layer.tables + int64_t(kv_head) * a.layer.table_bytes);
  const int block_offset = in_table.block_offset, block_bytes = in_table.block_bytes;
  unsigned char* const stages = shared + plan.end;
  float* const sent = reinterpret_cast<float*>(shared + a.sent);        // (shares, heads)
  float* const arrived = reinterpret_cast<float*>(shared + a.arrived);  // (blocks)
  if (threadIdx.x == 0) make_mailbox(&all_sent);
  arrive_in_cluster();
  load_constants<kDim, 1>(a.layer, kv_head, plan, shared, kKeyBits <= 0);
  __half* const back = reinterpret_cast<__half*>(shared + a.back);
  if (ending < n_heads)
    for (int i = threadIdx.x; i < value_rows * columns / 8; i += blockDim.x) {
      const int row = i / (columns / 8), piece = i % (columns / 8);
      copy_line(back + row * (columns + 8) + 8 * piece, static_cast<const __half*>(a.layer.value_back) +
                                                            (int64_t(kv_head) * value_rows + row) * kDim +
                                                            first_column + 8 * piece);
    }

  // This block's pages. Every warp loads one of them.
  Arrivals<1> arrival(barriers + warp);
  const Range range = items_of(0, a.pages, rank, blocks);
  int length = 0, id = 0;
  const auto read_length = [&] {
    length = a.cache.lengths[sequence];
    if (range.first + warp < range.last)
      id = a.cache.block_table[sequence * a.cache.stride + range.first + warp];
  };
  if (a.fresh >= 0) read_length();
  QueryMap<kDim, kKeyBits> map;
  map.load(a.layer, kv_head, warp);
  map.load_weights(a.layer, kv_head);
  if (a.fresh < 0) {
    wait_for_predecessor();
    read_length();
  }
  const int n_pages = max(0, min(range.last, (length + kPagePositions - 1) / kPagePositions) - range.first);
  const auto load = [&] {
    if (warp >= n_pages) return;
    unsigned char* const to = stages + warp * a.stage_bytes;
    const int angle_bytes = a.layer.page_angles ? kDim * 4 : 0;
    arrival.expect(0, block_bytes + angle_bytes);
    arrival.copy(0, to, a.cache.pages + id * a.layer.page_bytes + block_offset, block_bytes);
    if (angle_bytes)
      arrival.copy(0, to + a.stage_bytes - angle_bytes,
                   a.layer.page_angles + int64_t(range.first + warp) * kDim, angle_bytes);
  };
  // What the preceding kernel does not write is loaded while that one ends.
  const bool early = a.fresh >= 0 && range.first + warp < max(length - a.fresh, 0) / kPagePositions;
  if (early) load();
  HeldGroups groups;
  if constexpr (kKeyBits == kSeveral) groups.read(reinterpret_cast<const uint8_t*>(&in_table));
  wait_for_cluster();  // the cluster's blocks have begun, so that what is sent to them arrives
  if (threadIdx.x == 0) expect_sent(&all_sent, blocks * kSentPitch<kDim> * 4);
  if (a.fresh >= 0) wait_for_predecessor();
  __half* const rows = reinterpret_cast<__half*>(shared + plan.rows);
  load_queries<kDim, 1>(a.q + (int64_t(sequence) * a.layer.n_heads + first_head) * kDim, a.bf16, n_heads,
                        rows);
  if (!early) load();
  wait_for_lines();
  __syncthreads();
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(shared);
  prepare_queries<kDim, 1, kKeyBits>(a.layer, kv_head, rows, map, queries);
  if (a.layer.key_mean) prepare_plain<kDim, 1>(a.layer, rows, queries.plain);
  __syncthreads();
  let_successor_start();

  // Scores.
  const HeldTable<kKeyBits, kValueBits> table(shared);
  const int page = warp / kItems, part = warp % kItems * kParts;
  const bool busy = page < n_pages;
  float s[1][kParts][4] = {}, factor[2], most[2] = {-1e30f, -1e30f}, norm = 0;
  uint32_t pair[4] = {};
#pragma unroll
  for (int j = 0; j < 2; ++j)
    factor[j] = fmaxf(queries.bounds[2 * (2 * c + j)] * t.query_scale * a.scale, 1e-30f);
  if (busy) {
    const Zero zero = {kept(kZero), kept(kZero), kept(kZero), kept(kZero)};
    const uint8_t* const block = stages + page * a.stage_bytes;
    const int valid = length - (range.first + page) * kPagePositions;
    Sums<1, kParts> high, low;
    if constexpr (kKeyBits == kSeveral) reset(high, low, zero, groups);
    wait_for_phase(shared_address(barriers + page), 0);
    if constexpr (kKeyBits > 0)
      score_uniform<kDim, 1, kParts, kKeyBits>(s, block, table, queries, part, valid, zero);
    else if constexpr (kKeyBits == kSeveral)
      score_widths<1, kParts>(s, high, low, block, groups, table.key_norms, queries, part, valid, zero);
    else
      score_groups<1, kParts>(s, block, shared, t, queries, part, valid, zero);
    if (a.layer.key_mean)
      score_mean<kDim, 1, kParts>(s, block + table.key_norms,
                                  reinterpret_cast<const float4*>(block + a.stage_bytes - kDim * 4), queries,
                                  reinterpret_cast<const uint4*>(shared + plan.mean), t.query_scale, part);
    if (valid < kPagePositions) mask<1, kParts>(s, part, valid);
    load_norms(pair, block + table.value_norms, r, valid);
    norm = largest_norm(pair);
#pragma unroll
    for (int j = 0; j < 2; ++j) most[j] = fmaxf(largest_score<kParts>(s[0], j) * factor[j], -1e30f);
  }
  if (r == 0) exchange.most[warp][c] = {most[0], most[1]};
  if (lane == 0) exchange.norms[warp] = norm;
  __syncthreads();

  // Weights.
  const Largest largest = largest_of(exchange);
  uint4* const weights = reinterpret_cast<uint4*>(shared + a.weights);
  float sums[2] = {};
  if (busy)
    weigh_block<kParts>(s, factor, pair, largest, part, weights + page * 64, sums);
  else if (page < (n_pages + kAtOnce - 1) / kAtOnce * kAtOnce)
    for (int i = 0; i < kParts / 2; ++i) weights[page * 64 + part / 2 * 32 + 32 * i + lane] = uint4{};
  exchange.sums[warp][lane] = {sums[0], sums[1]};
  const bool centred = a.layer.value_mean;
  if (centred) {
    float of_centred[2] = {};
    if (busy) add_centred<kParts>(s[0], pair, part, of_centred);
    exchange.centred[warp][lane] = {of_centred[0], of_centred[1]};
  }
  __syncthreads();

  static_assert(kWarps == kHeads);
  {  // a warp adds up the weights of one head
    const auto sum_of = [&](const float2(&lanes)[kWarps][32]) {
      const auto weight = [&](int i) {
        const float2 x = lanes[i / 8][i % 8 * 4 + warp / 2];
        return warp % 2 ? x.y : x.x;
      };
      float sum = weight(lane) + weight(lane + 32);
#pragma unroll
      for (int apart = 1; apart < 32; apart *= 2) sum += __shfl_xor_sync(kAll, sum, apart);
      return sum;
    };
    const float sum = sum_of(exchange.sums), of_centred = centred ? sum_of(exchange.centred) : 0.0f;
    if (lane == warp / 2)  // this lane has the largest score of heads 2 c and 2 c + 1
      *reinterpret_cast<float4*>(sent + warp * kSentPitch<kDim> + kDim) = {
          warp % 2 ? largest.score[1] : largest.score[0], sum, of_centred, 0};
  }

  // Values.
  constexpr int kSharesHere = kShares<kDim>;
  if (warp / kSlabs < kSharesHere)
    for (int slab = warp % kSlabs; slab < kSlabs; slab += kWarps) {
      float o[4];
      sum_values<kValueBits, kSharesHere>(o, slab, stages, a.stage_bytes, warp / kSlabs, n_pages, shared, t,
                                          weights, largest.norm * (1 / (kWeightSteps * kByteOne)));
      float* const to = sent + (warp / kSlabs * kHeads + 2 * c) * kSentPitch<kDim> + 2 * (8 * slab + r);
      *reinterpret_cast<float2*>(to) = {o[0], o[2]};  // rows r, r + 8
      *reinterpret_cast<float2*>(to + kSentPitch<kDim>) = {o[1], o[3]};
    }
  __syncthreads();
  if (warp < n_heads) {  // a warp sends the results of one head
    const float4* const from = reinterpret_cast<const float4*>(sent + warp * kSentPitch<kDim>);
    float4* const there = reinterpret_cast<float4*>(arrived + rank * kArrivedPitch<kDim>);
    const auto send_to_all = [&](int at, const float4& x) {
      for (int half = 0; half <= halves; ++half) send(there + at, x, &all_sent, (warp << halves) + half);
    };
#pragma unroll
    for (int i = 0; i < kDim / 4; i += 32) {
      if (kDim % 128 != 0 && i + lane >= kDim / 4) break;
      float4 x = from[i + lane];
#pragma unroll
      for (int share = 1; share < kSharesHere; ++share) {
        const float4 y = from[share * kHeads * kSentPitch<kDim> / 4 + i + lane];
        x.x += y.x, x.y += y.y, x.z += y.z, x.w += y.w;
      }
      send_to_all(i + lane, x);
    }
    if (lane == 0) send_to_all(kDim / 4, from[kDim / 4]);
  }
  if (ending >= n_heads) return;

  // The head that this block finishes.
  constexpr int kEach = (kDim + 31) / 32;  // rows of B_v that a lane holds, eight columns of each
  uint4 held[kEach];
  const auto hold = [&](int eight) {
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      held[i] = lane + 32 * i < value_rows && eight < columns / 8
                    ? *reinterpret_cast<const uint4*>(back + (lane + 32 * i) * (columns + 8) + 8 * eight)
                    : uint4{};
  };
  hold(warp);
  wait_for_sent(&all_sent);
  // Largest score and sums of weights of blocks r and r + 8.
  float4 of_block[2];
  float top = -INFINITY;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    of_block[k] = 8 * k + r < blocks
                      ? *reinterpret_cast<const float4*>(arrived + (8 * k + r) * kArrivedPitch<kDim> + kDim)
                      : make_float4(-INFINITY, 0, 0, 0);
    top = fmaxf(top, of_block[k].x);
  }
#pragma unroll
  for (int apart = 4; apart < 32; apart *= 2) top = fmaxf(top, __shfl_xor_sync(kAll, top, apart));
  const float shrink[2] = {exp2_fast(of_block[0].x - top), exp2_fast(of_block[1].x - top)};
  float l = of_block[0].y * shrink[0] + of_block[1].y * shrink[1];
  float l_centred = of_block[0].z * shrink[0] + of_block[1].z * shrink[1];
  if (centred)
#pragma unroll
    for (int apart = 4; apart < 32; apart *= 2) l_centred += __shfl_xor_sync(kAll, l_centred, apart);
#pragma unroll
  for (int first = 0; first < kDim / 4; first += 4 * kWarps) {  // a warp takes 16 outputs
    const int at = min(first + 4 * warp, kDim / 4 - 4) + c;
    float4 sum{};
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int block = min(8 * k + r, blocks - 1);
      const float4 y = reinterpret_cast<const float4*>(arrived + block * kArrivedPitch<kDim>)[at];
      sum.x = fmaf(y.x, shrink[k], sum.x), sum.y = fmaf(y.y, shrink[k], sum.y);
      sum.z = fmaf(y.z, shrink[k], sum.z), sum.w = fmaf(y.w, shrink[k], sum.w);
    }
#pragma unroll
    for (int apart = 4; apart < 32; apart *= 2) {
      if (first == 0) l += __shfl_xor_sync(kAll, l, apart);
      sum.x += __shfl_xor_sync(kAll, sum.x, apart);
      sum.y += __shfl_xor_sync(kAll, sum.y, apart);
      sum.z += __shfl_xor_sync(kAll, sum.z, apart);
      sum.w += __shfl_xor_sync(kAll, sum.w, apart);
    }
    float* const to = outputs + at / 4 * 16 + at % 4 * 2;  // two rows, and those 8 below
    if (r == 0 && first + 4 * warp < kDim / 4) {
      *reinterpret_cast<float2*>(to) = {sum.x, sum.z};
      *reinterpret_cast<float2*>(to + 8) = {sum.y, sum.w};
    }
  }
  __syncthreads();
  const float inverse = l > 0 ? __fdividef(1.0f, l) : 0.0f;
#pragma unroll 1
  for (int eight = warp; eight < columns / 8;) {
    float y[8] = {};
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      add_row(y, lane + 32 * i < value_rows ? outputs[lane + 32 * i] : 0.0f, held[i]);
    const LaneSum column = sum_over_lanes(y);
    const int at = first_column + 8 * eight + column.index;
    const float mean = centred ? a.layer.value_mean[kv_head * kDim + at] * l_centred * inverse : 0.0f;
    if (lane % 4 == 0)
      store_16(a.out, (int64_t(sequence) * a.layer.n_heads + first_head + ending) * kDim + at,
               fmaf(column.sum, inverse, mean), a.bf16);
    eight += kWarps;
    hold(eight);
  }
}

/// How a step is distributed over the device. blocks: of a cluster; 0: the context is not short.
struct Plan {
  int blocks = 0, chunks = 1, pages = 1, each = 0;  // pages of the longest sequence, of a block
  int stage_bytes = 0, weights = 0, sent = 0, arrived = 0, back = 0, shared_bytes = 0;
};

/// Allows clusters of more than 8 blocks, and this much shared memory.
template <class Kernel>
void allow_clusters(Kernel kernel, int shared_bytes) {
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
             "shared memory");
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "clusters");
}

/// How many clusters of `blocks` blocks the device holds at a time.
int clusters_at_once(int blocks, int shared_bytes) {
  static std::mutex mutex;
  static std::map<std::tuple<int, int, int>, int> known;  // device, blocks, shared bytes
  int device = 0;
  check_cuda(cudaGetDevice(&device), "current device");
  const std::lock_guard lock(mutex);
  const auto [at, fresh] = known.try_emplace({device, blocks, shared_bytes}, 0);
  if (!fresh) return at->second;
  const auto kernel = short_kernel<128, 4, 0, 0>;
  allow_clusters(kernel, shared_bytes);
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {unsigned(blocks), 1, 1};
  cudaLaunchConfig_t config{};
  config.attrs = &cluster, config.numAttrs = 1;
  config.gridDim = dim3(blocks), config.blockDim = dim3(32 * kWarps);
  config.dynamicSmemBytes = shared_bytes;
  if (cudaOccupancyMaxActiveClusters(&at->second, kernel, &config) != cudaSuccess) {
    cudaGetLastError();  // none, then: a part of a device may be too small for clusters
    at->second = 0;
  }
  return at->second;
}

template <int kDim>
Plan make_plan(const DecodeAttention& step) {
  const PackedLayer& layer = *step.layer;
  const int room = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - kStaticShared;
  Plan p;
  p.chunks = (layer.n_heads / layer.n_kv_heads + kHeads - 1) / kHeads;
  p.pages = int(std::max<int64_t>(1, (step.longest + kPagePositions - 1) / kPagePositions));
  p.stage_bytes = (layer.block_bytes + (layer.page_angles ? kDim * 4 : 0) + 127) / 128 * 128;
  const int64_t clusters = int64_t(layer.n_kv_heads) * p.chunks * step.batch;
  for (const int blocks : {2 * kHeads, kHeads}) {
    const int each = (p.pages + blocks - 1) / blocks;  // pages of a block
    if (each > kMostPages) continue;
    const int room_for = (each + kAtOnce - 1) / kAtOnce * kAtOnce;
    p.weights = shared_plan<kDim, 1>(layer).end + room_for * p.stage_bytes;
    p.sent = p.weights + room_for * 1024;
    p.arrived = p.sent + kShares<kDim> * kHeads * kSentPitch<kDim> * 4;
    p.back = p.arrived + blocks * kArrivedPitch<kDim> * 4;
    p.shared_bytes = p.back + 16 * layer.value_slabs * (kDim * kHeads / blocks + 8) * 2;
    // There has to be room for two steps: the next one loads its pages while this one ends.
    if (p.shared_bytes > room || 2 * clusters > clusters_at_once(blocks, p.shared_bytes)) continue;
    p.blocks = blocks, p.each = each;
    break;
  }
  return p;
}

template <int kDim, int kParts>
void launch(const DecodeAttention& step, const Plan& plan, const Arguments& a, const Stream& stream) {
  with_layer_widths<kDim, 1>(*step.layer, [&](auto widths) {
    const auto kernel = short_kernel<kDim, kParts, widths.key, widths.value>;
    allow_clusters(kernel, plan.shared_bytes);
    launch_clusters(kernel, dim3(plan.blocks, step.layer->n_kv_heads * plan.chunks, step.batch), plan.blocks,
                    32 * kWarps, plan.shared_bytes, stream, "short attention", a);
  });
}

}  // namespace

bool short_attention(const DecodeAttention& step, const Stream& stream) {
  if (step.exact || step.first_page > 0 || !step.rule.plain() || step.layer->centres.n > 0 ||
      attribute(cudaDevAttrComputeCapabilityMajor) < 9)
    return false;
  const PackedLayer& layer = *step.layer;
  bool taken = false;
  with_dim(layer.dim, [&](auto dim) {
    const Plan plan = make_plan<dim.value>(step);
    taken = plan.blocks > 0;
    if (!taken) return;
    const Arguments a{layer,
                      step.cache,
                      static_cast<const uint16_t*>(step.q),
                      step.out,
                      step.type == FloatType::bf16,
                      step.scale * kLog2e,
                      plan.pages,
                      layer.n_heads / layer.n_kv_heads,
                      plan.chunks,
                      plan.stage_bytes,
                      plan.weights,
                      plan.sent,
                      plan.arrived,
                      plan.back,
                      step.fresh};
    if (plan.each <= kWarps / 2)
      launch<dim.value, 2>(step, plan, a, stream);
    else
      launch<dim.value, 4>(step, plan, a, stream);
  });
  return taken;
}

}  // namespace blockgtq::cuda
