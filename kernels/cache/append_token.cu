// Takes one new token per sequence from the projections into the cache. Per head:
//
//   q, k   y = x / sqrt(mean(x^2) + eps) (w + offset), then RoPE with the angle of the sequence's position:
//          (a, b) -> (a cos - b sin, b cos + a sin) for the coordinates of every rotary block
//   v      as it is
//
// Queries go to attention. Keys and values go into pages of fp16, and into packed pages as
//
//   z = F (x - R_t mean),  u = z / |z|,  code = nearest centroid of u_j,  norm = |z| / |c|
//
// Where MeanRules says so, z is F x and the sign bit of the first norm is set. Where values have centres, a
// thread per centre finds out which is the nearest (nearest_centre.cuh). packed_encode.cu does the same
// for many tokens at once.
//
// Grid: heads (queries, keys, values), sequences. A thread per coordinate computes its own number and that of
// its partner in the rotary block. F of the head, (D, places), and all else that does not depend on the token
// is loaded before the preceding kernel has ended. For the product with F a thread takes two places and a
// quarter of the depth. Then a thread per place finds its code, and a thread per unit (cache/page_layout.h)
// puts the unit's codes between those of the page's other positions.
//
// Bytes moved: 4 per number in, F of every KV head twice (from L2), a word per bit of a unit in and out.
#include <cuda_fp16.h>

#include "cache/exact_page.h"
#include "cache/page_layout.h"
#include "kernels/cache/append_token.h"
#include "kernels/cache/nearest_centre.cuh"
#include "kernels/device/check.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/reduce.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kMaxDim = 256, kDepths = 4;
constexpr int kMaxPlaces = 288;  // of 256 coordinates in 8 groups, each of which may leave half a unit empty
constexpr int kThreads = kMaxPlaces, kWarps = kThreads / 32;

enum class Part { query, key, value };

struct Arguments {
  AppendToken a;
  PackedLayer layer;
  AppendLayer append;
  int blocks;  // rotary blocks of a head
  bool half;   // block i is coordinates i and i + blocks
};

/// The sum over the block, which every thread gets. sums (kWarps) is free again after the next barrier.
__device__ inline float block_sum(float x, float* sums) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += sums[i];
  return sum;
}

/// The first half of the same for every norm: the sums of warps go to `to` (n_norms, kWarps). norm: of this
/// thread; -1: none.
__device__ inline void leave_sums(float x, int norm, int n_norms, float* to) {
  for (int i = 0; i < n_norms; ++i) {
    const float sum = warp_sum(norm == i ? x : 0.0f);
    if (threadIdx.x % 32 == 0) to[i * kWarps + threadIdx.x / 32] = sum;
  }
}
/// The second half, after a barrier: the sum over the block for a norm.
__device__ inline float sum_of(const float* sums, int norm) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += sums[norm * kWarps + i];
  return sum;
}

/// The unit that a place belongs to, by its index in the stream, and the place's coordinate within the unit.
struct Place {
  int unit, coordinate;
  __device__ Place(bool keys, int place) {
    const int slab = place / kSlab, p = place % kSlab;
    unit = keys ? 4 * slab + p % 8 / 2 : 8 * slab + p % 8;
    coordinate = keys ? p / 8 * 2 + p % 2 : p / 8;
  }
};

/// A stored code, and the magnitude of its centroid.
struct Code {
  uint32_t stored;
  float level;
};
__device__ inline Code code_of(float u, int bits, const AppendGroup& group) {
  const uint32_t half = 1u << (bits - 1);
  uint32_t m = 0;
  for (uint32_t i = 0; i + 1 < half; ++i) m += fabsf(u) > group.thresholds[i];
  return {stored_code(bits, u < 0 ? half - 1 - m : half + m), group.levels[m]};
}

/// The static shared memory of a block of keys or values. F and its groups are in the dynamic part.
struct Shared {
  float x[kMaxDim];               // the vector that is packed
  float z[kDepths * kMaxPlaces];  // partial sums of z, by quarter of the depth and place
  float sums[2][kMaxEncodeGroups * kWarps];
  uint32_t codes[kMaxPlaces];  // by place
  float costs[kWarps];         // the least of a warp's centres, and its number
  int centres[kWarps];
};

/// What packing a head's keys or values needs and what does not depend on the token. It is read before the
/// preceding kernel has ended.
template <bool kKeys>
struct Packing {
  int n_places, n_norms, page_position;  // n_places: 16 for every slab that this head has
  int norm = -1, bits = 0, group = 0;    // of the thread's place; norm -1: none
  UnitEntry unit;                        // the thread's unit; bits 0: none
  int lane = 0;
  uint8_t *block = nullptr, *norms = nullptr, *centres = nullptr;
  uint32_t held[8] = {};  // the words of that lane of the unit

  __device__ Packing(const Arguments& g, int head, int b) {
    const AppendToken& a = g.a;
    const int position = a.positions[b];
    const int page = a.packed.block_table[b * a.packed.stride + position / kPagePositions];
    const uint8_t* const bytes = g.layer.tables + int64_t(head) * g.layer.table_bytes;
    const PackedTable& table = *reinterpret_cast<const PackedTable*>(bytes);
    const UnitEntry* const units =
        reinterpret_cast<const UnitEntry*>(bytes + sizeof(PackedTable)) + (kKeys ? 0 : 4 * table.key_slabs);
    page_position = position % kPagePositions;
    n_places = kSlab * (kKeys ? table.key_slabs : table.value_slabs);
    const int norms_at = kKeys ? table.key_norms : table.value_norms;
    n_norms = kKeys ? (table.value_norms - norms_at) / (2 * kPagePositions) : 1;
    block = a.packed_pages + page * g.layer.page_bytes + table.block_offset;
    norms = block + norms_at;
    centres = block + table.value_centres;
    if (int(threadIdx.x) < n_places) {
      const Place place(kKeys, threadIdx.x);
      const UnitEntry of_place = units[place.unit];
      if (of_place.bits > 0 && !(of_place.half && place.coordinate > 1))
        norm = of_place.norm, bits = of_place.bits, group = of_place.group;
    }
    if (int(threadIdx.x) >= n_places / (kKeys ? 4 : 2)) return;
    unit = units[threadIdx.x];
    lane = (kKeys ? key_place(page_position, 0, unit.half) : value_place(page_position, 0)).lane;
#pragma unroll
    for (int w = 0; w < 8; ++w)
      if (w < unit.bits) held[w] = unit.half ? half_words()[w] : words()[w];
  }
  __device__ void put_centre(int number) const {
    centres[centre_place(page_position)] = uint8_t(number);
  }
  __device__ uint32_t* words() const {
    return reinterpret_cast<uint32_t*>(block + unit.offset) + lane * unit.bits;
  }
  __device__ uint16_t* half_words() const {
    return reinterpret_cast<uint16_t*>(block + unit.offset) + lane * unit.bits;
  }

  /// Puts the position's codes (by place) into the thread's unit, between those of other positions.
  __device__ void put_codes(const uint32_t* of_place) {
    const int slab = kSlab * (threadIdx.x / (kKeys ? 4 : 8));
    const int first = slab + (kKeys ? threadIdx.x % 4 * 2 : threadIdx.x % 8);
#pragma unroll
    for (int j = 0; j < (kKeys ? 4 : 2); ++j) {
      if (unit.half && j > 1) break;
      const uint32_t code = of_place[first + (kKeys ? j % 2 + j / 2 * 8 : 8 * j)];
      const CodePlace place = kKeys ? key_place(page_position, j, unit.half) : value_place(page_position, j);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        if (k >= unit.bits) break;
        const CodeBit at = code_bit(unit.bits, place.i, place.p, k);
#pragma unroll
        for (int w = 0; w < 8; ++w)
          if (w == at.word) held[w] = (held[w] & ~(1u << at.bit)) | (code >> k & 1) << at.bit;
      }
    }
#pragma unroll
    for (int w = 0; w < 8; ++w) {
      if (w >= unit.bits) break;
      if (unit.half)
        half_words()[w] = uint16_t(held[w]);
      else
        words()[w] = held[w];
    }
  }
};

/// Encodes x, and writes its codes and norms. keeps_mean: x still contains its mean.
template <bool kKeys>
__device__ void pack(const Arguments& g, Packing<kKeys>& p, float x, bool keeps_mean, const __half* forward,
                     const AppendGroup* groups, Shared& s) {
  const AppendLayer::Side& side = kKeys ? g.append.key : g.append.value;
  const int dim = g.a.dim, places = side.places, pairs = places / 2;
  if (int(threadIdx.x) < dim) s.x[threadIdx.x] = x;
  wait_for_lines();
  __syncthreads();
  for (int i = threadIdx.x; i < kDepths * pairs; i += kThreads) {
    const int depth = i / pairs, pair = i % pairs, each = dim / kDepths;
    const __half* const column = forward + depth * each * places + 2 * pair;
    float2 sum{};
#pragma unroll 8
    for (int d = 0; d < each; ++d) {
      const float2 f = __half22float2(*reinterpret_cast<const __half2*>(column + d * places));
      sum.x = fmaf(f.x, s.x[depth * each + d], sum.x);
      sum.y = fmaf(f.y, s.x[depth * each + d], sum.y);
    }
    *reinterpret_cast<float2*>(&s.z[depth * kMaxPlaces + 2 * pair]) = sum;
  }
  __syncthreads();

  float z = 0;
  if (int(threadIdx.x) < p.n_places)
    for (int depth = 0; depth < kDepths; ++depth) z += s.z[depth * kMaxPlaces + threadIdx.x];
  leave_sums(z * z, p.norm, side.n_norms, s.sums[0]);
  __syncthreads();
  Code code{};
  if (p.norm >= 0) {
    const float square = sum_of(s.sums[0], p.norm);
    code = code_of(square > 0 ? z * rsqrtf(square) : 0.0f, p.bits, groups[p.group]);
    s.codes[threadIdx.x] = code.stored;
  }
  leave_sums(code.level * code.level, p.norm, side.n_norms, s.sums[1]);
  __syncthreads();
  if (int(threadIdx.x) < min(p.n_norms, side.n_norms)) {
    const float of_c = sum_of(s.sums[1], threadIdx.x);
    const float length = of_c > 0 ? fminf(sqrtf(sum_of(s.sums[0], threadIdx.x) / of_c), 65504.0f) : 0.0f;
    reinterpret_cast<__half*>(p.norms)[threadIdx.x * kPagePositions + norm_place(p.page_position)] =
        __float2half_rn(keeps_mean && threadIdx.x == 0 ? -length : length);
  }
  if (p.unit.bits > 0) p.put_codes(s.codes);
}

__device__ inline void put_exact(const AppendToken& a, bool keys, int head, int b, float x) {
  const int place = a.exact_starts[b];
  const int page = a.exact.block_table[b * a.exact.stride + place / kPagePositions];
  __half* const block =
      reinterpret_cast<__half*>(a.exact_pages + page * exact_page_bytes(a.n_kv_heads, a.dim) +
                                int64_t(head) * exact_block_bytes(a.dim));
  const int position = place % kPagePositions, d = threadIdx.x;
  block[keys ? exact_key_place(a.dim, position, d) : exact_value_place(a.dim, position, d)] =
      __float2half_rn(x);
}

/// This thread's coordinate of a head of the token, normed and rotated, and that of the mean.
struct Turned {
  float x, mean;
};
__device__ inline Turned turn(const Arguments& g, Part part, int head, const float* mean, float* sums) {
  const AppendToken& a = g.a;
  const int all = a.n_heads + 2 * a.n_kv_heads, b = blockIdx.y, d = threadIdx.x;
  const bool there = d < a.dim, turned = part != Part::value && a.rope.cos && d < 2 * g.blocks;
  const int other = g.half ? (d < g.blocks ? d + g.blocks : d - g.blocks) : d ^ 1;
  const float* const weights = part == Part::query ? a.q_norm : part == Part::key ? a.k_norm : nullptr;
  float cosine = 1, sine = 0, weight = 1, of_other = 1;
  Turned out{0, mean && there ? mean[d] : 0.0f};
  if (weights && there) weight = weights[d] + a.norm_offset;
  if (weights && turned) of_other = weights[other] + a.norm_offset;
  if (turned) {
    const int64_t at = int64_t(a.positions[b]) * g.blocks + (g.half ? d % g.blocks : d / 2);
    cosine = a.rope.cos[at], sine = a.rope.sin[at];
    if (d < other) sine = -sine;
    if (mean) out.mean = (out.mean * cosine + mean[other] * sine) / a.rope_factor;
  }
  wait_for_predecessor();
  const float* const x = a.projected + (int64_t(b) * all + blockIdx.x) * a.dim;
  float own = there ? x[d] : 0, partner = turned ? x[other] : 0;
  if (weights) {
    const float root = rsqrtf(block_sum(own * own, sums) / float(a.dim) + a.norm_eps);
    own *= root * weight;
    partner *= root * of_other;
  }
  out.x = own * cosine + partner * sine;
  return out;
}

/// The nearest centre of a head's value, of which this thread has coordinate x.
__device__ inline NearestCentre nearest_centre(const ValueCentres& centres, int head, int dim, float x,
                                               Shared& s) {
  if (int(threadIdx.x) < dim) s.x[threadIdx.x] = x;
  __syncthreads();
  float cost = INFINITY;
  int number = 0;
  static_assert(kThreads >= kMostCentresOnDevice);
  if (int(threadIdx.x) < centres.n) {
    number = threadIdx.x;
    cost = centres.limits[head * centres.n + number];
    const float* const column = centres.columns + int64_t(head) * dim * centres.n + number;
#pragma unroll 16
    for (int d = 0; d < dim; ++d) cost = fmaf(-column[d * centres.n], s.x[d], cost);
  }
  warp_least(cost, number);
  if (threadIdx.x % 32 == 0) s.costs[threadIdx.x / 32] = cost, s.centres[threadIdx.x / 32] = number;
  __syncthreads();
  cost = s.costs[0], number = s.centres[0];
  for (int w = 1; w < kWarps; ++w)  // on a tie the lower number
    if (s.costs[w] < cost) cost = s.costs[w], number = s.centres[w];
  return {number, cost > 0};
}

template <bool kKeys>
__device__ void append(const Arguments& g, int head, unsigned char* dynamic, Shared& shared) {
  const AppendToken& a = g.a;
  const AppendLayer::Side& side = kKeys ? g.append.key : g.append.value;
  const Part part = kKeys ? Part::key : Part::value;
  const auto put = [&](float x) {
    if (int(threadIdx.x) >= a.dim) return;
    if (a.exact_pages) put_exact(a, kKeys, head, blockIdx.y, x);
    if (void* const to = kKeys ? a.k : a.v)
      static_cast<__half*>(to)[(int64_t(blockIdx.y) * a.n_kv_heads + head) * a.dim + threadIdx.x] =
          __float2half_rn(x);
  };
  if (!a.packed_pages) return put(turn(g, part, head, nullptr, shared.sums[0]).x);
  const int forward_bytes = 2 * a.dim * side.places,
            group_bytes = kMaxEncodeGroups * int(sizeof(AppendGroup));
  const auto take = [&](const void* from, int bytes, int at) {
    const unsigned char* const mine = static_cast<const unsigned char*>(from) + int64_t(head) * bytes;
    for (int i = 16 * threadIdx.x; i < bytes; i += 16 * kThreads) copy_line(dynamic + at + i, mine + i);
  };
  take(side.forward, forward_bytes, 0);
  take(side.groups, group_bytes, forward_bytes);
  Packing<kKeys> packing(g, head, blockIdx.y);
  const MeanRules& rules = kKeys ? g.layer.key_rules : g.layer.value_rules;
  float weight = 0, limit = 0;
  if (rules.weights) {
    if (int(threadIdx.x) < a.dim) weight = rules.weights[head * a.dim + threadIdx.x];
    limit = rules.limits[head];
  }
  const ValueCentres& centres = g.layer.centres;
  if (!kKeys)  // prefetches the centres into L2, from which the weights of a step have evicted them
    for (int i = 32 * threadIdx.x; i < centres.n * a.dim; i += 32 * kThreads)
      fetch_line(centres.columns + int64_t(head) * centres.n * a.dim + i);
  Turned x = turn(g, part, head, side.mean ? side.mean + head * a.dim : nullptr, shared.sums[0]);
  put(x.x);
  bool keeps_mean = false;
  if (rules.weights) keeps_mean = block_sum(x.x * weight * (kKeys ? x.mean : 1.0f), shared.sums[1]) < limit;
  if (!kKeys && centres.n > 0) {
    const NearestCentre nearest = nearest_centre(centres, head, a.dim, x.x, shared);
    keeps_mean = nearest.keeps;
    if (int(threadIdx.x) < a.dim)
      x.mean = centres.rows[(int64_t(head) * centres.n + nearest.number) * a.dim + threadIdx.x];
    if (threadIdx.x == 0) packing.put_centre(nearest.number);
  }
  pack<kKeys>(g, packing, keeps_mean ? x.x : x.x - x.mean, keeps_mean,
              reinterpret_cast<const __half*>(dynamic),
              reinterpret_cast<const AppendGroup*>(dynamic + forward_bytes), shared);
}

__global__ void __launch_bounds__(kThreads) append_kernel(const Arguments g) {
  const AppendToken& a = g.a;
  extern __shared__ __align__(16) unsigned char dynamic[];
  __shared__ Shared shared;
  const int head = blockIdx.x, b = blockIdx.y;
  let_successor_start();
  if (head >= a.n_heads + a.n_kv_heads)
    return append<false>(g, head - a.n_heads - a.n_kv_heads, dynamic, shared);
  if (head >= a.n_heads) return append<true>(g, head - a.n_heads, dynamic, shared);
  const float x = turn(g, Part::query, head, nullptr, shared.sums[0]).x;
  if (int(threadIdx.x) < a.dim)
    static_cast<__half*>(a.q)[(int64_t(b) * a.n_heads + head) * a.dim + threadIdx.x] = __float2half_rn(x);
}

}  // namespace

void append_token(const AppendToken& a, const Stream& stream) {
  check(a.batch > 0 && a.batch <= 65535 && a.n_heads > 0 && a.n_kv_heads > 0 && a.dim > 0 &&
            a.dim <= kMaxDim && a.dim % 16 == 0 && a.projected && a.positions && a.q,
        "append_token: arguments");
  check(!a.rope.cos || (a.rope.sin && a.rope.layout.rotary_dim <= a.dim), "append_token: rotation");
  check(!a.packed_pages || (a.layer && a.append && a.layer->dim == a.dim), "append_token: packed pages");
  check(!a.exact_pages || a.exact_starts, "append_token: exact pages");
  Arguments g{a, {}, {}, a.rope.layout.n_rotary(), a.rope.layout.pairing == Pairing::half};
  int bytes = 0;
  if (a.packed_pages) {
    g.layer = *a.layer;
    g.append = *a.append;
    const int places = std::max(g.append.key.places, g.append.value.places);
    check(places <= kMaxPlaces, "append_token: places");
    bytes = 2 * a.dim * places + kMaxEncodeGroups * int(sizeof(AppendGroup));
  }
  check_cuda(cudaFuncSetAttribute(append_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "shared memory");
  launch_early(append_kernel, dim3(a.n_heads + 2 * a.n_kv_heads, a.batch), kThreads, bytes, stream,
               "append token", g);
}

}  // namespace blockgtq::cuda
