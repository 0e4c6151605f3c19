// Attention of one new token per sequence over packed keys and values.
//
//   s_t = scale (q . k_t),  k_t = R_t mean + r_t B z_t  =>  s_t = scale (r_t (B^T q) . c[code] + (R_t^-1 q) .
//   mean) o   = B_v (sum_t p_t r_t c[code]) / sum_t p_t + mean_v,     p_t = e^(s_t - m)
//
// so that rotations, permutations and scales of the quantizer touch q once and o once, and the kernel's inner
// part knows of codes and norms only.
//
//   grid   (splits of the context, KV heads, sequences); a warp takes every W-th item of its block's split,
//   alone: its own
//          two stages of shared memory, its own running maximum, sum and output. An item is a page, or a
//          quarter of one where there are too few pages to fill the device.
//   item   codes -> bytes in registers as the A operand (unpack.cuh; cache/page_layout.h has the order):
//            S^T (positions, heads)  = K (positions, D) q^T (D, heads)    heads of the group: the 8 columns
//            of mma O^T (D, heads)         += V^T (D, positions) P^T (positions, heads)
//          q and the weights p_t r_t are fixed-point numbers of 16 bits, high and low byte multiplied
//          apart, exactly added up as integers. The sums start from the integer whose bits read 1.5 x 2^23 as
//          float32: no conversion. Slabs with codes of more than 4 bits take the fp16 product.
//   end    warps meet in shared memory, splits in merge_kernel, which also multiplies with B_v
//
// Bytes moved: the block of every page once; at K3V3 and D = 128 6400 bytes per 64 positions.
#include <algorithm>

#include "cache/page_layout.h"
#include "check.cuh"
#include "float_type.cuh"
#include "packed_attention.h"
#include "unpack.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kStages = 2, kMostWarps = 16, kMostSplits = 256;
constexpr uint32_t kAll = 0xffffffffu;
constexpr float kLog2e = 1.4426950408889634f;
constexpr int kZero = 0x4b400000;         // an integer sum's start, as float32 ...
constexpr float kZeroRead = 12582912.0f;  // ... this
constexpr float kQuerySteps = 127 * 256;  // fixed point of q: 1 is 127 x 256
constexpr float kWeightSteps = 65535;     // of weights
constexpr float kByteOne = 127;           // of centroids

struct Arguments {
  PackedLayer layer;
  PageTable cache;
  const __half* q;
  float* sums;  // (B, H, chunks, splits, 8 kTiles, 2 + value coordinates): maximum, sum, output
  float scale;  // times log2(e)
  int group, chunks, splits, items, stage_bytes, warp_bytes;  // items of the longest sequence
};

/// Where the parts of shared memory begin; the table comes first.
struct SharedPlan {
  int queries, wide_queries, mean_queries, heads, mean, warps;
};
template <int kDim, int kTiles>
__host__ __device__ SharedPlan shared_plan(const PackedLayer& layer) {
  SharedPlan p{};
  p.queries = layer.table_bytes;
  p.wide_queries = p.queries + layer.key_slabs * kTiles * 256;
  p.mean_queries = p.wide_queries + (layer.wide_keys ? layer.key_slabs * kTiles * 256 : 0);
  p.heads = p.mean_queries + (layer.key_mean ? kDim / 16 * kTiles * 256 : 0);
  p.mean = p.heads + 8 * kTiles * 4 * 2;
  p.warps = (p.mean + (layer.key_mean ? 4 * (kDim / 16) * 512 : 0) + 127) / 128 * 128;
  return p;
}

/// The items of a split, of all that a sequence of the given length has.
struct Range {
  int first, last;
};
__device__ inline Range items_of(int n, int split, int splits) {
  return {int(int64_t(n) * split / splits), int(int64_t(n) * (split + 1) / splits)};
}

__device__ inline uint32_t pack2(float x, float y) {
  const __half2 h = __floats2half2_rn(x, y);
  return *reinterpret_cast<const uint32_t*>(&h);
}
__device__ inline float2 unpack2(uint32_t x) {
  return __half22float2(*reinterpret_cast<const __half2*>(&x));
}

/// Queries of this block's heads as the B operands of every slab, in shared memory.
struct Queries {
  uint2* fixed;    // (slabs, tiles, 32): high bytes, low bytes of (B^T q) / |q|
  uint2* wide;     // the same as fp16, where there are wide slabs
  uint2* plain;    // (D / 16, tiles, 32): q itself as fp16, block by block, where keys are centred
  float* lengths;  // (8 tiles, 2): |q|, 1 / |q|
};

/// Heads beyond the group are zero. Calls `before_use` when all loads are under way.
template <int kDim, int kTiles, class F>
__device__ void prepare_queries(const Arguments& a, int kv_head, const __half* q, int n_heads,
                                const Queries& to, F before_use) {
  constexpr int kSteps = kDim / 16;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4,
            n_warps = blockDim.x / 32;
  const uint4* map =
      static_cast<const uint4*>(a.layer.query_map) + int64_t(kv_head) * a.layer.key_slabs * kSteps * 32;
  uint32_t b[kTiles][kSteps][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int k = 0; k < kSteps; ++k)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int head = 8 * tile + r;
        b[tile][k][i] =
            head < n_heads ? *reinterpret_cast<const uint32_t*>(q + head * kDim + 16 * k + 8 * i + 2 * c) : 0;
      }
  // The first slab's rows too, before the pages, which would keep them waiting.
  uint4 m[kSteps];
  const auto load_map = [&](int slab) {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) m[k] = map[(slab * kSteps + k) * 32 + lane];
  };
  if (warp < a.layer.key_slabs) load_map(warp);
  before_use();
  float left[kTiles], right[kTiles];  // 1 / |q| of heads 2 c, 2 c + 1
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float square = 0;
#pragma unroll
    for (int k = 0; k < kSteps; ++k)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float2 x = unpack2(b[tile][k][i]);
        square += x.x * x.x + x.y * x.y;
      }
    square += __shfl_xor_sync(kAll, square, 1);
    square += __shfl_xor_sync(kAll, square, 2);
    const float length = sqrtf(square), inverse = length > 0 ? 1 / length : 0.0f;
    if (warp == 0 && c == 0) {
      to.lengths[2 * (8 * tile + r)] = length;
      to.lengths[2 * (8 * tile + r) + 1] = inverse;
    }
    left[tile] = __shfl_sync(kAll, inverse, 8 * c);
    right[tile] = __shfl_sync(kAll, inverse, 8 * c + 4);
  }
#pragma unroll 1
  for (int slab = warp; slab < a.layer.key_slabs; slab += n_warps) {
    float y[kTiles][4] = {};
    if (slab != warp) load_map(slab);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const uint32_t operand[4] = {m[k].x, m[k].y, m[k].z, m[k].w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) mma(y[tile], operand, b[tile][k][0], b[tile][k][1]);
    }
    // y: place r or r + 8 of the slab, head 2 c or 2 c + 1
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float x = y[tile][j] * (j % 2 ? right[tile] : left[tile]);
        const int lane_to = 4 * (2 * c + j % 2) + r / 2, at = (slab * kTiles + tile) * 32 + lane_to;
        const int fixed = __float2int_rn(x * kQuerySteps), high = min((fixed + 128) >> 8, 127);
        int8_t* bytes = reinterpret_cast<int8_t*>(to.fixed + at) + r % 2 + j / 2 * 2;
        bytes[0] = int8_t(high);
        bytes[4] = int8_t(min(fixed - 256 * high, 127));
        if (a.layer.wide_keys)
          reinterpret_cast<__half*>(to.wide + at)[r % 2 + j / 2 * 2] = __float2half_rn(x);
      }
  }
}

/// For centred keys: the same queries block by block and not multiplied, and R_j mean of this head.
template <int kDim, int kTiles>
__device__ void prepare_mean(const Arguments& a, int kv_head, const __half* q, int n_heads, uint2* queries,
                             uint4* mean) {
  for (int i = threadIdx.x; i < kDim / 16 * kTiles * 32; i += blockDim.x) {
    const int lane = i % 32, tile = i / 32 % kTiles, slab = i / 32 / kTiles, head = 8 * tile + lane / 4;
    uint2 word{};
    if (head < n_heads) {
      const int16_t* coords = a.layer.block_coords + 2 * (8 * slab + 2 * (lane % 4));
      const __half* row = q + head * kDim;
      const __half2 first = __halves2half2(row[coords[0]], row[coords[1]]),
                    second = __halves2half2(row[coords[2]], row[coords[3]]);
      word = {*reinterpret_cast<const uint32_t*>(&first), *reinterpret_cast<const uint32_t*>(&second)};
    }
    queries[i] = word;
  }
  constexpr int kWords = 4 * (kDim / 16) * 32;
  for (int i = threadIdx.x; i < kWords; i += blockDim.x)
    mean[i] = static_cast<const uint4*>(a.layer.key_mean)[int64_t(kv_head) * kWords + i];
}

/// The running result of a warp: heads 8 tile + 2 c and the next.
template <int kSlabs, int kTiles>
struct State {
  float o[kSlabs][kTiles][4] = {};  // rows r and r + 8 of a slab
  float m[kTiles][2], l[kTiles][2];
};

/// Scores of an item's kParts tiles of 16 positions: positions 16 i + r (first two) and 16 i + 8 + r.
template <int kTiles, int kParts>
using Scores = float[kTiles][kParts][4];
template <int kTiles, int kParts>
using Sums = int[kTiles][kParts][4];

/// Norms of this lane's eight positions, pairs (16 i + r, 16 i + 8 + r); positions from `valid` on have none.
__device__ inline void load_norms(uint32_t (&pair)[4], const uint8_t* norms, int valid) {
  const int r = threadIdx.x % 32 / 4;
  const uint4 n = reinterpret_cast<const uint4*>(norms)[r];
  pair[0] = n.x, pair[1] = n.y, pair[2] = n.z, pair[3] = n.w;
  if (valid < kPagePositions)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      pair[i] &= (16 * i + r < valid ? 0xffffu : 0u) | (16 * i + 8 + r < valid ? 0xffff0000u : 0u);
}

/// A slab's keys times a norm of their own per position: where there is a norm per group.
__device__ inline void scale_rows(Operands& a, const uint32_t (&pair)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = permute(pair[i], pair[i], 0x1010u), high = permute(pair[i], pair[i], 0x3232u);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const __half2 y = __hmul2(*reinterpret_cast<const __half2*>(&a[i][j]),
                                *reinterpret_cast<const __half2*>(j % 2 ? &high : &low));
      a[i][j] = *reinterpret_cast<const uint32_t*>(&y);
    }
  }
}

/// Integer sums back to their start.
template <int kTiles, int kParts>
__device__ inline void reset(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) high[tile][i][j] = low[tile][i][j] = kZero;
}

/// s += sums times the positions' norms (pair; null: one).
template <int kTiles, int kParts>
__device__ inline void take_sums(Scores<kTiles, kParts>& s, const Sums<kTiles, kParts>& high,
                                 const Sums<kTiles, kParts>& low, const uint32_t* pair, int part) {
  constexpr float kUnit = 1 / (kQuerySteps * kByteOne);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const float2 x = pair ? unpack2(pick<4>(pair, part + i)) : make_float2(1, 1);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float sum = fmaf(__int_as_float(high[tile][i][j]) - kZeroRead, 256.0f,
                               __int_as_float(low[tile][i][j]) - kZeroRead);
        s[tile][i][j] = fmaf(sum, (j < 2 ? x.x : x.y) * kUnit, s[tile][i][j]);
      }
  }
}

template <int kTiles, int kParts>
__device__ inline void multiply_norms(Scores<kTiles, kParts>& s, const uint32_t (&pair)[4], int part) {
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const float2 x = unpack2(pick<4>(pair, part + i));
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) s[tile][i][j] *= j < 2 ? x.x : x.y;
  }
}

/// Sums over `count` neighbouring slabs of kBits each, whose codes and queries begin at these. kCount: their
/// number where it is known.
template <int kTiles, int kParts, int kBits, int kCount>
__device__ void sum_run(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low, const uint8_t* codes,
                        uint2 book, const uint2* queries, int count, int part) {
  const int lane = threadIdx.x % 32, unit_lane = 8 * (lane % 4) + lane / 4;
  const int n = kCount > 0 ? kCount : count;
#pragma unroll(kCount > 0 ? kCount : 1)
  for (int slab = 0; slab + 1 < n; slab += 2) {
    uint32_t first[kBits], second[kBits];
    load_words<kBits>(first, codes + slab * 128 * kBits, unit_lane, false);
    load_words<kBits>(second, codes + (slab + 1) * 128 * kBits, unit_lane, false);
    uint2 b[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      b[tile][0] = queries[(slab * kTiles + tile) * 32 + lane];
      b[tile][1] = queries[((slab + 1) * kTiles + tile) * 32 + lane];
    }
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const uint32_t x = nibbles<kBits>(first, part + i), y = nibbles<kBits>(second, part + i);
      const uint32_t a[4] = {look_up<kBits>(book, x), look_up<kBits>(book, x >> 16), look_up<kBits>(book, y),
                             look_up<kBits>(book, y >> 16)};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        mma<false>(high[tile][i], a, b[tile][0].x, b[tile][1].x);
        mma<false>(low[tile][i], a, b[tile][0].y, b[tile][1].y);
      }
    }
  }
  if (n % 2 == 0) return;
  uint32_t words[kBits];
  load_words<kBits>(words, codes + (n - 1) * 128 * kBits, unit_lane, false);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const uint32_t x = nibbles<kBits>(words, part + i);
    const uint32_t a[2] = {look_up<kBits>(book, x), look_up<kBits>(book, x >> 16)};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 b = queries[((n - 1) * kTiles + tile) * 32 + lane];
      mma<false>(high[tile][i], a, b.x);
      mma<false>(low[tile][i], a, b.y);
    }
  }
}

/// s = keys . prepared queries, all coordinates of kBits.
template <int kDim, int kTiles, int kParts, int kBits>
__device__ void score_uniform(Scores<kTiles, kParts>& s, const uint8_t* block, const uint8_t* shared,
                              const PackedTable& t, const Queries& queries, int part, int valid) {
  Sums<kTiles, kParts> high, low;
  reset<kTiles, kParts>(high, low);
  const uint2 book = *reinterpret_cast<const uint2*>(shared + t.runs[0].book);
  sum_run<kTiles, kParts, kBits, kDim / 16>(high, low, block, book, queries.fixed, 0, part);
  uint32_t pair[4];
  load_norms(pair, block + t.key_norms, valid);
  take_sums<kTiles, kParts>(s, high, low, pair, part);
}

/// s = keys . prepared queries, as the table says.
template <int kTiles, int kParts>
__device__ void score_keys(Scores<kTiles, kParts>& s, const uint8_t* block, const uint8_t* shared,
                           const PackedTable& t, const Queries& queries, int part, int valid) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const UnitEntry* units = reinterpret_cast<const UnitEntry*>(shared + sizeof(PackedTable));
  Sums<kTiles, kParts> high, low;
  reset<kTiles, kParts>(high, low);
  uint32_t pair[4];
  const bool norms_last = t.wide_keys && !t.group_norms;
  const auto take = [&](int norm) {
    if (!norms_last) load_norms(pair, block + t.key_norms + 128 * norm, valid);
    take_sums<kTiles, kParts>(s, high, low, norms_last ? nullptr : pair, part);
  };
#pragma unroll 1
  for (int i = 0; i < t.n_runs; ++i) {
    const SlabRun run = t.runs[i];
    const uint2 book = *reinterpret_cast<const uint2*>(shared + run.book);
    const uint8_t* codes = block + run.offset;
    const uint2* b = queries.fixed + run.first * kTiles * 32;
    switch (run.bits) {
      case 1:
        sum_run<kTiles, kParts, 1, 0>(high, low, codes, book, b, run.count, part);
        break;
      case 2:
        sum_run<kTiles, kParts, 2, 0>(high, low, codes, book, b, run.count, part);
        break;
      case 3:
        sum_run<kTiles, kParts, 3, 0>(high, low, codes, book, b, run.count, part);
        break;
      default:
        sum_run<kTiles, kParts, 4, 0>(high, low, codes, book, b, run.count, part);
    }
    if (t.group_norms) {
      take(run.norm);
      reset<kTiles, kParts>(high, low);
    }
  }
  for (uint32_t mixed = t.mixed_keys; mixed; mixed &= mixed - 1) {  // with a norm per group these are wide
    const int slab = __ffs(int(mixed)) - 1;
    Bytes a;
    unpack(units[4 * slab + c], block, shared, r, a);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 b = queries.fixed[(slab * kTiles + tile) * 32 + lane];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (kParts == 4 || i == part) {
          mma<false>(high[tile][kParts == 4 ? i : 0], a[i], b.x);
          mma<false>(low[tile][kParts == 4 ? i : 0], a[i], b.y);
        }
    }
    if (t.group_norms) {  // a slab that is not full
      take(units[4 * slab].norm);
      reset<kTiles, kParts>(high, low);
    }
  }
  if (!t.group_norms) take(0);
  for (uint32_t wide = t.wide_keys; wide; wide &= wide - 1) {
    const int slab = __ffs(int(wide)) - 1;
    const UnitEntry e = units[4 * slab + c];
    Operands a;
    unpack(e, block, shared, r, a);
    if (t.group_norms) {
      load_norms(pair, block + t.key_norms + 128 * e.norm, valid);
      scale_rows(a, pair);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 b = queries.wide[(slab * kTiles + tile) * 32 + lane];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (kParts == 4 || i == part) mma(s[tile][kParts == 4 ? i : 0], a[i], b.x, b.y);
    }
  }
  if (norms_last) {
    load_norms(pair, block + t.key_norms, valid);
    multiply_norms<kTiles, kParts>(s, pair, part);
  }
}

/// s += (R_-t0 q) . R_j mean in units of |q| query_scale. angles (D / 2, 2): cos and sin of t0 theta.
template <int kDim, int kTiles, int kParts>
__device__ void score_mean(Scores<kTiles, kParts>& s, const float4* angles, const Queries& queries,
                           const uint4* mean, float query_scale, int part) {
  const int lane = threadIdx.x % 32, c = lane % 4;
  const float unit = 1 / query_scale;
#pragma unroll 2
  for (int slab = 0; slab < kDim / 16; ++slab) {
    const float4 turn = angles[4 * slab + c];
    uint32_t b[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 q = queries.plain[(slab * kTiles + tile) * 32 + lane];
      const float2 x = unpack2(q.x), y = unpack2(q.y);
      const float inverse = queries.lengths[2 * (8 * tile + lane / 4) + 1] * unit;
      b[tile][0] = pack2((x.x * turn.x + x.y * turn.y) * inverse, (x.y * turn.x - x.x * turn.y) * inverse);
      b[tile][1] = pack2((y.x * turn.z + y.y * turn.w) * inverse, (y.y * turn.z - y.x * turn.w) * inverse);
    }
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const uint4 m = mean[((part + i) * (kDim / 16) + slab) * 32 + lane];
      const uint32_t a[4] = {m.x, m.y, m.z, m.w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) mma(s[tile][i], a, b[tile][0], b[tile][1]);
    }
  }
}

/// Positions from `valid` on get no weight.
template <int kTiles, int kParts>
__device__ inline void mask(Scores<kTiles, kParts>& s, int part, int valid) {
  const int r = threadIdx.x % 32 / 4;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (16 * (part + i) + 8 * (j / 2) + r >= valid) s[tile][i][j] = -INFINITY;
}

/// Weights of an item as the B operands of the second product: fixed point, 65535 the largest possible.
template <int kTiles, int kParts>
struct Weights {
  uint32_t pairs[kTiles][kParts]
                [2];  // 16 bits each: positions 2 c, 2 c + 1 of the first and second eight of a tile, head r
  float unit[kTiles][2];  // what one stands for, heads 2 c and 2 c + 1, centroids being bytes
};

template <int kSlabs, int kTiles, int kParts>
__device__ void weigh(State<kSlabs, kTiles>& state, const Scores<kTiles, kParts>& s,
                      const float (&factor)[kTiles][2], const uint32_t (&pair)[4], int part,
                      Weights<kTiles, kParts>& w) {
  // The largest norm of the item: the weights' scale.
  float2 norm[kParts];
  float largest = 1e-20f;
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    norm[i] = unpack2(pick<4>(pair, part + i));
    largest = fmaxf(largest, fmaxf(norm[i].x, norm[i].y));
  }
#pragma unroll
  for (int apart = 4; apart < 32; apart *= 2) largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, apart));
  const float steps = __fdividef(kWeightSteps, largest);
#pragma unroll
  for (int i = 0; i < kParts; ++i) norm[i].x *= steps, norm[i].y *= steps;

  bool grown = false;
  float shrink[kTiles][2], here[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float most = fmaxf(s[tile][0][j], s[tile][0][j + 2]);
#pragma unroll
      for (int i = 1; i < kParts; ++i) most = fmaxf(most, fmaxf(s[tile][i][j], s[tile][i][j + 2]));
#pragma unroll
      for (int apart = 4; apart < 32; apart *= 2) most = fmaxf(most, __shfl_xor_sync(kAll, most, apart));
      here[tile][j] = fmaxf(most * factor[tile][j], -1e30f);
      const float m = fmaxf(state.m[tile][j], here[tile][j]);
      grown |= m > state.m[tile][j];
      shrink[tile][j] = exp2_fast(state.m[tile][j] - m);
      state.m[tile][j] = m;
    }
  if (__any_sync(kAll, grown)) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        state.l[tile][j] *= shrink[tile][j];
#pragma unroll
        for (int slab = 0; slab < kSlabs; ++slab) {
          state.o[slab][tile][j] *= shrink[tile][j];
          state.o[slab][tile][j + 2] *= shrink[tile][j];
        }
      }
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float sum[2] = {};
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      float fixed[4];  // the low 16 bits of 2^23 + x are x
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float weight = exp2_fast(fmaf(s[tile][i][j], factor[tile][j % 2], -here[tile][j % 2]));
        sum[j % 2] += weight;
        fixed[j] = fmaf(weight, j < 2 ? norm[i].x : norm[i].y, 8388608.0f);
      }
      w.pairs[tile][i][0] =
          transpose8(permute(__float_as_uint(fixed[0]), __float_as_uint(fixed[1]), 0x5410u));
      w.pairs[tile][i][1] =
          transpose8(permute(__float_as_uint(fixed[2]), __float_as_uint(fixed[3]), 0x5410u));
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float lift = exp2_fast(here[tile][j] - state.m[tile][j]);
      state.l[tile][j] = fmaf(sum[j], lift, state.l[tile][j]);
      w.unit[tile][j] = lift * largest * (1 / (kWeightSteps * kByteOne));
    }
  }
}

/// The bytes of a tile's weights: positions 2 c, 2 c + 1, 8 + 2 c, 9 + 2 c.
template <int kTiles, int kParts>
__device__ inline uint2 weight_bytes(const Weights<kTiles, kParts>& w, int tile, int i) {
  return {permute(w.pairs[tile][i][0], w.pairs[tile][i][1], 0x7531u),
          permute(w.pairs[tile][i][0], w.pairs[tile][i][1], 0x6420u)};
}

/// o += one slab's bytes times the weights. x: nibbles looked up, two words per tile.
template <int kTiles, int kParts, class LookUp>
__device__ inline void add_bytes(float (&o)[kTiles][4], const Weights<kTiles, kParts>& w,
                                 const uint2 (&b)[kTiles][kParts], LookUp look) {
  int high[kTiles][4], low[kTiles][4];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 4; ++j) high[tile][j] = low[tile][j] = kZero;
#pragma unroll
  for (int i = 0; i < kParts; i += 2) {
    uint32_t a[4];
    look(i, a[0], a[1]);
    if constexpr (kParts > 1) {
      look(i + 1, a[2], a[3]);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        mma<true>(high[tile], a, b[tile][i].x, b[tile][i + 1].x);
        mma<true>(low[tile], a, b[tile][i].y, b[tile][i + 1].y);
      }
    } else {
      const uint32_t only[2] = {a[0], a[1]};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        mma<true>(high[tile], only, b[tile][i].x);
        mma<true>(low[tile], only, b[tile][i].y);
      }
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float sum =
          fmaf(__int_as_float(high[tile][j]) - kZeroRead, 256.0f, __int_as_float(low[tile][j]) - kZeroRead);
      o[tile][j] = fmaf(sum, w.unit[tile][j % 2], o[tile][j]);
    }
}

/// o += one slab of fp16 centroids times the weights, those as fp16 at half their value.
template <int kTiles, int kParts>
__device__ inline void add_halves(float (&o)[kTiles][4], const Weights<kTiles, kParts>& w, const Operands& a,
                                  int part) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (kParts == 4 || i == part) {
        uint32_t b[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint32_t x = w.pairs[tile][kParts == 4 ? i : 0][half];
          b[half] = pack2(float(x & 0xffffu) * 0.5f, float(x >> 16) * 0.5f);
        }
        mma(sum, a[i], b[0], b[1]);
      }
#pragma unroll
    for (int j = 0; j < 4; ++j) o[tile][j] = fmaf(sum[j], w.unit[tile][j % 2] * (2 * kByteOne), o[tile][j]);
  }
}

/// o += values times weights.
template <int kSlabs, int kTiles, int kParts, int kBits>
__device__ void add_values(State<kSlabs, kTiles>& state, const uint8_t* block, const uint8_t* shared,
                           const PackedTable& t, const Weights<kTiles, kParts>& w, int part) {
  const int lane = threadIdx.x % 32;
  const UnitEntry* units = reinterpret_cast<const UnitEntry*>(shared + sizeof(PackedTable)) + 4 * t.key_slabs;
  uint2 b[kTiles][kParts];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i) b[tile][i] = weight_bytes<kTiles, kParts>(w, tile, i);
  if constexpr (kBits > 0) {
    const uint8_t* codes = block + units->offset;
    const uint2 book = *reinterpret_cast<const uint2*>(shared + units->book);
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      uint32_t words[kBits];
      load_words<kBits>(words, codes + slab * 128 * kBits, lane, false);
      add_bytes<kTiles, kParts>(state.o[slab], w, b, [&](int i, uint32_t& x, uint32_t& y) {
        const uint32_t select = nibbles<kBits>(words, part + i);
        x = look_up<kBits>(book, select);
        y = look_up<kBits>(book, select >> 16);
      });
    }
  } else {
#pragma unroll 1
    for (int slab = 0; slab < t.value_slabs; ++slab) {
      const UnitEntry e = units[8 * slab + lane / 4];
      if (t.wide_values >> slab & 1) {
        Operands a;
        unpack(e, block, shared, lane % 4, a);
#pragma unroll
        for (int k = 0; k < kSlabs; ++k)
          if (k == slab) add_halves<kTiles, kParts>(state.o[k], w, a, part);
      } else {
        Bytes a;
        unpack(e, block, shared, lane % 4, a);
        const auto look = [&](int i, uint32_t& x, uint32_t& y) {
#pragma unroll
          for (int k = 0; k < 4; ++k)
            if (k == part + i) x = a[k][0], y = a[k][1];
        };
#pragma unroll
        for (int k = 0; k < kSlabs; ++k)
          if (k == slab) add_bytes<kTiles, kParts>(state.o[k], w, b, look);
      }
    }
  }
}

/// Warps of a block become one: results (8 kTiles, 2 + 16 kSlabs) in global memory.
template <int kSlabs, int kTiles>
__device__ void merge_warps(State<kSlabs, kTiles>& state, float* shared, float* to) {
  constexpr int kHeads = 8 * kTiles, kRows = 16 * kSlabs, kPitch = kHeads + 1;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4,
            n_warps = blockDim.x / 32;
  float* maxima = shared;                    // (W, heads), then each warp's factor
  float* sums = maxima + n_warps * kHeads;   // (W, heads)
  float* outputs = sums + n_warps * kHeads;  // (W, rows, heads + 1)
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float l = state.l[tile][j];
#pragma unroll
      for (int apart = 4; apart < 32; apart *= 2) l += __shfl_xor_sync(kAll, l, apart);
      if (r == 0) {
        maxima[warp * kHeads + 8 * tile + 2 * c + j] = state.m[tile][j];
        sums[warp * kHeads + 8 * tile + 2 * c + j] = l;
      }
    }
  float* mine = outputs + (warp * kRows + r) * kPitch + 2 * c;
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab)
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        mine[(16 * slab + j / 2 * 8) * kPitch + 8 * tile + j % 2] = state.o[slab][tile][j];
  __syncthreads();
  if (threadIdx.x < kHeads) {
    float most = -INFINITY, l = 0;
    for (int w = 0; w < n_warps; ++w) most = fmaxf(most, maxima[w * kHeads + threadIdx.x]);
    for (int w = 0; w < n_warps; ++w) {
      const float factor = exp2_fast(maxima[w * kHeads + threadIdx.x] - most);
      l += sums[w * kHeads + threadIdx.x] * factor;
      maxima[w * kHeads + threadIdx.x] = factor;
    }
    to[threadIdx.x * (kRows + 2)] = most;
    to[threadIdx.x * (kRows + 2) + 1] = l;
  }
  __syncthreads();
#pragma unroll 1
  for (int i = threadIdx.x; i < kHeads * kRows; i += blockDim.x) {
    const int head = i / kRows, row = i % kRows;
    const float *from = outputs + row * kPitch + head, *factor = maxima + head;
    float sum = 0;
#pragma unroll 4
    for (int w = 0; w < n_warps; ++w) sum = fmaf(from[w * (kRows * kPitch)], factor[w * kHeads], sum);
    to[head * (kRows + 2) + 2 + row] = sum;
  }
}

/// kParts: tiles of 16 positions in an item, 4 (a page) or 1.
template <int kDim, int kTiles, int kParts, int kKeyBits, int kValueBits>
__global__ void __launch_bounds__(kDim* kTiles <= 128 ? 512 : 256) decode_kernel(const Arguments a) {
  constexpr int kSlabs = kDim / 16, kItems = 4 / kParts;  // items of a page
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ uint64_t barriers[kMostWarps][kStages];
  const int warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  const int kv_head = blockIdx.y / a.chunks, chunk = blockIdx.y % a.chunks, sequence = blockIdx.z;
  const SharedPlan plan = shared_plan<kDim, kTiles>(a.layer);
  const uint8_t* const table = a.layer.tables + int64_t(kv_head) * a.layer.table_bytes;
  const PackedTable& in_table = *reinterpret_cast<const PackedTable*>(table);
  const int block_offset = in_table.block_offset, block_bytes = in_table.block_bytes;
  const int first_head = kv_head * a.group + chunk * 8 * kTiles;
  const int n_heads = min(8 * kTiles, a.group - chunk * 8 * kTiles);
  const __half* q = a.q + (int64_t(sequence) * a.layer.n_heads + first_head) * kDim;
  const Queries queries{
      reinterpret_cast<uint2*>(shared + plan.queries), reinterpret_cast<uint2*>(shared + plan.wide_queries),
      reinterpret_cast<uint2*>(shared + plan.mean_queries), reinterpret_cast<float*>(shared + plan.heads)};
  uint4* mean = reinterpret_cast<uint4*>(shared + plan.mean);
  for (int i = threadIdx.x; i < a.layer.table_bytes / 16; i += blockDim.x)
    reinterpret_cast<uint4*>(shared)[i] = reinterpret_cast<const uint4*>(table)[i];
  unsigned char* const stages = shared + plan.warps + warp * a.warp_bytes;
  Arrivals<kStages> arrivals(barriers[warp]);
  wait_for_predecessor();

  // Splits are cut by the longest context that may be, so that the page table is read beside the length, not
  // after it.
  const int length = a.cache.lengths[sequence];
  const Range range = items_of(a.items, blockIdx.x, a.splits);
  const int first = range.first + warp;
  const int32_t* const pages = a.cache.block_table + sequence * a.cache.stride;
  int ids[kStages];
#pragma unroll
  for (int n = 0; n < kStages; ++n)
    ids[n] = first + n * n_warps < range.last ? pages[(first + n * n_warps) / kItems] : 0;
  int last = 0;
  const auto load = [&](int item, int stage, int id) {
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
  prepare_queries<kDim, kTiles>(a, kv_head, q, n_heads, queries, [&] {
    last = min(range.last, (length + 16 * kParts - 1) / (16 * kParts));
#pragma unroll
    for (int n = 0; n < kStages; ++n) load(first + n * n_warps, n, ids[n]);
  });
  if (a.layer.key_mean) prepare_mean<kDim, kTiles>(a, kv_head, q, n_heads, queries.plain, mean);
  __syncthreads();
  let_successor_start();
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(shared);

  State<kSlabs, kTiles> state;
  float factor[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      factor[tile][j] =
          fmaxf(queries.lengths[2 * (8 * tile + threadIdx.x % 4 * 2 + j)] * t.query_scale * a.scale, 1e-30f);
      state.m[tile][j] = -1e30f;
      state.l[tile][j] = 0;
    }
#pragma unroll 1
  for (int n = 0; first + n * n_warps < last; ++n) {
    const int item = first + n * n_warps, page = item / kItems, part = kItems == 1 ? 0 : item % kItems;
    const int stage = n % kStages, next = item + kStages * n_warps, valid = length - page * kPagePositions;
    const int next_id = next < last ? pages[next / kItems] : 0;
    const unsigned char* block = stages + stage * a.stage_bytes;
    arrivals.wait(stage, n / kStages);
    float s[kTiles][kParts][4] = {};
    uint32_t pair[4];
    if constexpr (kKeyBits > 0)
      score_uniform<kDim, kTiles, kParts, kKeyBits>(s, block, shared, t, queries, part, valid);
    else
      score_keys<kTiles, kParts>(s, block, shared, t, queries, part, valid);
    if (a.layer.key_mean)
      score_mean<kDim, kTiles, kParts>(s, reinterpret_cast<const float4*>(block + a.stage_bytes - kDim * 4),
                                       queries, mean, t.query_scale, part);
    if (valid < kPagePositions) mask<kTiles, kParts>(s, part, valid);
    Weights<kTiles, kParts> w;
    load_norms(pair, block + t.value_norms, valid);
    weigh<kSlabs, kTiles, kParts>(state, s, factor, pair, part, w);
    add_values<kSlabs, kTiles, kParts, kValueBits>(state, block, shared, t, w, part);
    __syncwarp();
    load(next, stage, next_id);
  }
  __syncthreads();  // nobody reads a stage any more
  const int64_t place = ((int64_t(sequence) * gridDim.y + blockIdx.y) * a.splits + blockIdx.x) * 8 * kTiles;
  merge_warps<kSlabs, kTiles>(state, reinterpret_cast<float*>(shared + plan.warps),
                              a.sums + place * (16 * kSlabs + 2));
}

constexpr int kMergeThreads = 512;

/// One query head: splits become one, then B_v and the mean. sums as in Arguments.
template <int kDim>
__global__ void __launch_bounds__(kMergeThreads)
    merge_kernel(const Arguments a, int heads_per_block, __half* out) {
  constexpr int kParts = kMergeThreads / kDim, kInFlight = 17;  // threads of one row; its loads under way
  constexpr int kColumns = kDim / 8, kRowsAtOnce = kMergeThreads / kColumns,
                kEach = (kDim + kRowsAtOnce - 1) / kRowsAtOnce;
  __shared__ float factor[kMostSplits], o[kParts][kDim], columns[kRowsAtOnce][kDim + 1];
  __shared__ float total;
  const int head = blockIdx.x, sequence = blockIdx.y, kv_head = head / a.group;
  const int in_group = head % a.group, chunk = in_group / heads_per_block, place = in_group % heads_per_block;
  const int64_t stride = int64_t(heads_per_block) * (kDim + 2);  // of a split
  const float* sums =
      a.sums + ((int64_t(sequence) * a.layer.n_kv_heads + kv_head) * a.chunks + chunk) * a.splits * stride +
      place * (kDim + 2);
  let_successor_start();
  // B_v does not depend on the kernel before.
  const int n_rows = 16 * a.layer.value_slabs, column = threadIdx.x % kColumns * 8,
            row = threadIdx.x / kColumns;
  const __half* back =
      static_cast<const __half*>(a.layer.value_back) + int64_t(kv_head) * n_rows * kDim + column;
  uint4 held[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    held[i] = row + i * kRowsAtOnce < n_rows && row < kRowsAtOnce
                  ? *reinterpret_cast<const uint4*>(back + (row + i * kRowsAtOnce) * kDim)
                  : uint4{};
  wait_for_predecessor();
  const int mine = threadIdx.x % kDim, part = threadIdx.x / kDim;
  float x[kInFlight];
#pragma unroll
  for (int i = 0; i < kInFlight; ++i) {
    const int s = part + i * kParts;
    x[i] = part < kParts && s < a.splits ? sums[s * stride + 2 + mine] : 0.0f;
  }
  if (threadIdx.x < 32) {
    constexpr int kOfLane = kMostSplits / 32;
    float2 ml[kOfLane];  // maximum and sum
    float most = -INFINITY, l = 0;
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
      const int s = threadIdx.x + 32 * i;
      ml[i] = s < a.splits ? *reinterpret_cast<const float2*>(sums + s * stride) : make_float2(-INFINITY, 0);
    }
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) most = fmaxf(most, ml[i].x);
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) most = fmaxf(most, __shfl_xor_sync(kAll, most, apart));
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
      const int s = threadIdx.x + 32 * i;
      const float f = exp2_fast(ml[i].x - most);
      if (s < a.splits) factor[s] = f;
      l += ml[i].y * f;
    }
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) l += __shfl_xor_sync(kAll, l, apart);
    if (threadIdx.x == 0) total = l;
  }
  __syncthreads();
  if (part < kParts) {
    float sum = 0;
    for (int base = part; base < a.splits; base += kInFlight * kParts) {
#pragma unroll
      for (int i = 0; i < kInFlight; ++i)
        if (base + i * kParts < a.splits) sum = fmaf(x[i], factor[base + i * kParts], sum);
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int s = base + (kInFlight + i) * kParts;
        x[i] = s < a.splits ? sums[s * stride + 2 + mine] : 0.0f;
      }
    }
    o[part][mine] = sum;
  }
  __syncthreads();
  float y[8] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int at = row + i * kRowsAtOnce;
    if (at >= n_rows || row >= kRowsAtOnce) continue;
    float value = 0;
#pragma unroll
    for (int p = 0; p < kParts; ++p) value += o[p][at];
    const uint32_t word[4] = {held[i].x, held[i].y, held[i].z, held[i].w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 b = unpack2(word[j]);
      y[2 * j] = fmaf(value, b.x, y[2 * j]);
      y[2 * j + 1] = fmaf(value, b.y, y[2 * j + 1]);
    }
  }
  if (row < kRowsAtOnce)
#pragma unroll
    for (int j = 0; j < 8; ++j) columns[row][column + j] = y[j];
  __syncthreads();
  if (threadIdx.x < kDim) {
    float sum = 0;
#pragma unroll 8
    for (int i = 0; i < kRowsAtOnce; ++i) sum += columns[i][threadIdx.x];
    sum = total > 0 ? sum / total : 0.0f;
    if (a.layer.value_mean && total > 0) sum += a.layer.value_mean[kv_head * kDim + threadIdx.x];
    out[(int64_t(sequence) * a.layer.n_heads + head) * kDim + threadIdx.x] = __float2half_rn(sum);
  }
}

/// How a step is laid out over the device.
struct Plan {
  int tiles = 1, chunks = 1, splits = 1, warps = 1, parts = 4, items = 1;
  int stage_bytes = 0, warp_bytes = 0, shared_bytes = 0;
};

int attribute(cudaDeviceAttr what) {
  int device = 0, value = 0;
  check_cuda(cudaGetDevice(&device), "current device");
  check_cuda(cudaDeviceGetAttribute(&value, what, device), "device attribute");
  return value;
}

template <int kDim, int kTiles>
Plan make_plan(const DecodeAttention& step) {
  const PackedLayer& layer = *step.layer;
  Plan p;
  p.tiles = kTiles;
  const int group = layer.n_heads / layer.n_kv_heads;
  p.chunks = (group + 8 * kTiles - 1) / (8 * kTiles);
  p.stage_bytes = (layer.block_bytes + (layer.page_angles ? kDim * 4 : 0) + 127) / 128 * 128;
  const int merged = 8 * kTiles * 2 * 4 + (8 * kTiles + 1) * kDim * 4;
  p.warp_bytes = (std::max(kStages * p.stage_bytes, merged) + 127) / 128 * 128;
  const int fixed = shared_plan<kDim, kTiles>(layer).warps;
  const int room = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - 1024;
  const int sms = attribute(cudaDevAttrMultiProcessorCount);
  const int64_t pages = std::max<int64_t>(1, (step.longest + kPagePositions - 1) / kPagePositions);
  const int64_t blocks = int64_t(layer.n_kv_heads) * p.chunks * step.batch;
  // 12 warps take least where all widths are one, 16 where more time goes into unpacking (measured).
  const int by_registers = kDim * kTiles > 128                                ? 8
                           : layer.uniform_key > 0 && layer.uniform_value > 0 ? 12
                                                                              : 16;
  const int most = std::min(by_registers, (room - fixed) / p.warp_bytes);
  check(most >= 1, "decode_attention: no room for a page");
  if (pages * blocks <= 4 * sms) p.parts = 1;
  p.items = int(pages * (4 / p.parts));
  const int64_t splits = std::clamp<int64_t>(sms / blocks, 1, kMostSplits);
  p.warps = int(std::clamp<int64_t>((p.items + splits - 1) / splits, std::min(8, most), most));
  p.splits = int(std::min<int64_t>(splits, (p.items + p.warps - 1) / p.warps));
  p.shared_bytes = fixed + p.warps * p.warp_bytes;
  return p;
}

template <int kDim, int kTiles, int kParts, int kKeyBits, int kValueBits>
void launch(const DecodeAttention& step, const Arguments& a, const Plan& plan, const Stream& stream) {
  const auto kernel = decode_kernel<kDim, kTiles, kParts, kKeyBits, kValueBits>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes),
             "shared memory");
  cudaLaunchAttribute
      early{};  // a kernel may begin while the one before it ends; it waits where it needs what that wrote
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.attrs = &early;
  config.numAttrs = attribute(cudaDevAttrComputeCapabilityMajor) >= 9 ? 1 : 0;
  config.stream = raw(stream);
  config.gridDim = dim3(plan.splits, step.layer->n_kv_heads * plan.chunks, step.batch);
  config.blockDim = 32 * plan.warps;
  config.dynamicSmemBytes = plan.shared_bytes;
  check_cuda(cudaLaunchKernelEx(&config, kernel, a), "decode attention");

  // The same division between L1 and shared memory as the kernel before: multiprocessors need not be emptied
  // to change it.
  check_cuda(cudaFuncSetAttribute(merge_kernel<kDim>, cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared),
             "shared memory");
  config.gridDim = dim3(step.layer->n_heads, step.batch);
  config.blockDim = kMergeThreads;
  config.dynamicSmemBytes = 0;
  check_cuda(cudaLaunchKernelEx(&config, merge_kernel<kDim>, a, 8 * kTiles, static_cast<__half*>(step.out)),
             "merge");
}

template <int kDim, int kTiles, int kParts>
void decode(const DecodeAttention& step, const Arguments& a, const Plan& plan, const Stream& stream) {
  const PackedLayer& layer = *step.layer;
  const auto uniform = [&](int key, int value) {
    return layer.uniform_key == key && layer.uniform_value == value;
  };
  if constexpr (kDim == 128 && kTiles == 1) {
    if (uniform(2, 2)) return launch<kDim, kTiles, kParts, 2, 2>(step, a, plan, stream);
    if (uniform(3, 2)) return launch<kDim, kTiles, kParts, 3, 2>(step, a, plan, stream);
    if (uniform(3, 3)) return launch<kDim, kTiles, kParts, 3, 3>(step, a, plan, stream);
    if (uniform(4, 4)) return launch<kDim, kTiles, kParts, 4, 4>(step, a, plan, stream);
  }
  if constexpr (kDim == 128 && kTiles == 1) {
    if (layer.uniform_value == 2) return launch<kDim, kTiles, kParts, 0, 2>(step, a, plan, stream);
    if (layer.uniform_value == 3) return launch<kDim, kTiles, kParts, 0, 3>(step, a, plan, stream);
    if (layer.uniform_value == 4) return launch<kDim, kTiles, kParts, 0, 4>(step, a, plan, stream);
  }
  launch<kDim, kTiles, kParts, 0, 0>(step, a, plan, stream);
}

template <int kDim, int kTiles>
void decode(const DecodeAttention& step, void* scratch, const Stream& stream) {
  const Plan plan = make_plan<kDim, kTiles>(step);
  const PackedLayer& layer = *step.layer;
  const Arguments a{layer,
                    step.cache,
                    static_cast<const __half*>(step.q),
                    static_cast<float*>(scratch),
                    step.scale * kLog2e,
                    layer.n_heads / layer.n_kv_heads,
                    plan.chunks,
                    plan.splits,
                    plan.items,
                    plan.stage_bytes,
                    plan.warp_bytes};
  if (plan.parts == 1)
    decode<kDim, kTiles, 1>(step, a, plan, stream);
  else
    decode<kDim, kTiles, 4>(step, a, plan, stream);
}

template <int kDim>
void decode(const DecodeAttention& step, void* scratch, const Stream& stream) {
  if (step.layer->n_heads / step.layer->n_kv_heads <= 8)
    decode<kDim, 1>(step, scratch, stream);
  else
    decode<kDim, 2>(step, scratch, stream);
}

template <class F>
void with_dim(int dim, F f) {
  switch (dim) {
    case 64:
      return f(std::integral_constant<int, 64>());
    case 80:
      return f(std::integral_constant<int, 80>());
    case 96:
      return f(std::integral_constant<int, 96>());
    case 128:
      return f(std::integral_constant<int, 128>());
    case 256:
      return f(std::integral_constant<int, 256>());
    default:
      check(false, "decode_attention: head dimension");
  }
}

}  // namespace

bool decode_attention_supports(int d) {
  return d == 64 || d == 80 || d == 96 || d == 128 || d == 256;
}

int64_t decode_scratch_bytes(const DecodeAttention& step) {
  int64_t bytes = 0;
  with_dim(step.layer->dim, [&](auto dim) {
    const PackedLayer& layer = *step.layer;
    const bool narrow = layer.n_heads / layer.n_kv_heads <= 8;
    const Plan p = narrow ? make_plan<dim.value, 1>(step) : make_plan<dim.value, 2>(step);
    bytes = int64_t(step.batch) * layer.n_kv_heads * p.chunks * p.splits * 8 * p.tiles * (dim.value + 2) * 4;
  });
  return bytes;
}

void decode_attention(const DecodeAttention& step, void* scratch, const Stream& stream) {
  check(step.layer && step.q && step.out && scratch && step.batch > 0 && step.batch <= 65535,
        "decode_attention: arguments");
  check(step.layer->n_heads % step.layer->n_kv_heads == 0, "decode_attention: heads");
  with_dim(step.layer->dim, [&](auto dim) { decode<dim.value>(step, scratch, stream); });
}

}  // namespace blockgtq::cuda
