// Queries as operands of the tensor cores, and their products with packed keys: S^T (positions, heads). Part
// of packed_attention.cu.
#pragma once
#include <cmath>

#include "cache/page_layout.h"
#include "splits.cuh"
#include "unpack.cuh"

namespace blockgtq::cuda {

constexpr int kZero = 0x4b400000;         // an integer sum's start, as float32 ...
using Zero = int[4];                      // ... of a whole product, kept in registers
constexpr float kZeroRead = 12582912.0f;  // kZero as float32
constexpr float kQuerySteps = 127 * 256;  // fixed point of q: the longest row of a norm is 127 x 256
constexpr float kWeightSteps = 65535;     // of weights
constexpr float kByteOne = 127;           // of centroids

/// Queries of this block's heads as the B operands of every slab, in shared memory.
struct Queries {
  uint2* fixed;    // (slabs, tiles, 32): high bytes, low bytes of (B^T q) / |q| / the norm's longest row
  uint2* wide;     // (B^T q) / |q| as fp16, where there are wide slabs
  uint2* plain;    // (D / 16, tiles, 32): q itself as fp16, block by block, where keys are centred
  float* lengths;  // (8 tiles, 2): |q|, 1 / |q|
};

/// q itself, in shared memory: (8 tiles, D + 8) fp16, of which the last 8 keep rows on different banks.
template <int kDim>
constexpr int kQueryPitch = kDim + 8;

/// Heads beyond the group are zero.
template <int kDim, int kTiles>
__device__ inline void load_queries(const __half* q, int n_heads, __half* rows) {
  constexpr int kPieces = kDim / 8;  // of a row
  for (int i = threadIdx.x; i < 8 * kTiles * kPieces; i += blockDim.x) {
    const int head = i / kPieces, piece = i % kPieces;
    reinterpret_cast<uint4*>(rows + head * kQueryPitch<kDim>)[piece] =
        head < n_heads ? reinterpret_cast<const uint4*>(q + head * kDim)[piece] : uint4{};
  }
}

/// A slab's rows of the query map.
template <int kDim>
struct QueryMap {
  uint4 m[kDim / 16];
  __device__ void load(const PackedLayer& layer, int kv_head, int slab) {
    constexpr int kSteps = kDim / 16;
    if (slab >= layer.key_slabs) return;
    const uint4* from = static_cast<const uint4*>(layer.query_map) +
                        (int64_t(kv_head) * layer.key_slabs + slab) * kSteps * 32 + threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) m[k] = from[32 * k];
  }
};

/// rows: see load_queries(). table: of this head, in shared memory. map holds the rows of slab `warp`.
template <int kDim, int kTiles>
__device__ void prepare_queries(const PackedLayer& layer, int kv_head, const __half* rows,
                                const uint8_t* table, QueryMap<kDim>& map, const Queries& to) {
  constexpr int kSteps = kDim / 16;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4,
            n_warps = blockDim.x / 32;
  if (warp >= layer.key_slabs) return;
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
  uint32_t b[kTiles][kSteps][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const __half* row = rows + (8 * tile + lane % 8) * kQueryPitch<kDim>;
#pragma unroll
    for (int k = 0; k < kSteps; k += 2) {
      uint32_t x[4];  // an odd last step is loaded twice
      load_matrices(x, row + 16 * min(k + lane / 16, kSteps - 1) + lane / 8 % 2 * 8);
      b[tile][k][0] = x[0], b[tile][k][1] = x[1];
      if (k + 1 < kSteps) b[tile][k + 1][0] = x[2], b[tile][k + 1][1] = x[3];
    }
  }
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
    const float inverse = square > 0 ? rsqrt_fast(square) : 0.0f;
    if (warp == 0 && c == 0) {
      to.lengths[2 * (8 * tile + r)] = square * inverse;
      to.lengths[2 * (8 * tile + r) + 1] = inverse;
    }
    left[tile] = __shfl_sync(kAll, inverse, 8 * c);
    right[tile] = __shfl_sync(kAll, inverse, 8 * c + 4);
  }
#pragma unroll 1
  for (int slab = warp; slab < layer.key_slabs; slab += n_warps) {
    const int norm = t.group_norms && slab < t.key_slabs ? units_of(table)[4 * slab].norm : 0;
    const float steps = __fdividef(kQuerySteps, t.longest_row[norm]);
    float y[kTiles][2][4] = {};  // two chains: half the latency
    if (slab != warp) map.load(layer, kv_head, slab);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const uint32_t operand[4] = {map.m[k].x, map.m[k].y, map.m[k].z, map.m[k].w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) mma(y[tile][k % 2], operand, b[tile][k][0], b[tile][k][1]);
    }
    // y: place r or r + 8 of the slab, head 2 c or 2 c + 1
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float x = (y[tile][0][j] + y[tile][1][j]) * (j % 2 ? right[tile] : left[tile]);
        const int lane_to = 4 * (2 * c + j % 2) + r / 2, at = (slab * kTiles + tile) * 32 + lane_to;
        const int fixed = __float2int_rn(x * steps), high = min((fixed + 128) >> 8, 127);
        int8_t* bytes = reinterpret_cast<int8_t*>(to.fixed + at) + r % 2 + j / 2 * 2;
        bytes[0] = int8_t(high);
        bytes[4] = int8_t(min(fixed - 256 * high, 127));
        if (layer.wide_keys) reinterpret_cast<__half*>(to.wide + at)[r % 2 + j / 2 * 2] = __float2half_rn(x);
      }
  }
}

/// For centred keys: R_j mean of this head, j the positions of a page.
template <int kDim>
__device__ void load_mean(const PackedLayer& layer, int kv_head, uint4* mean) {
  constexpr int kWords = 4 * (kDim / 16) * 32;
  for (int i = threadIdx.x; i < kWords; i += blockDim.x)
    mean[i] = static_cast<const uint4*>(layer.key_mean)[int64_t(kv_head) * kWords + i];
}

/// The same queries block by block and not multiplied.
template <int kDim, int kTiles>
__device__ void prepare_plain(const PackedLayer& layer, const __half* rows, uint2* plain) {
  for (int i = threadIdx.x; i < kDim / 16 * kTiles * 32; i += blockDim.x) {
    const int lane = i % 32, tile = i / 32 % kTiles, slab = i / 32 / kTiles;
    const int16_t* coords = layer.block_coords + 2 * (8 * slab + 2 * (lane % 4));
    const __half* row = rows + (8 * tile + lane / 4) * kQueryPitch<kDim>;
    const __half2 first = __halves2half2(row[coords[0]], row[coords[1]]),
                  second = __halves2half2(row[coords[2]], row[coords[3]]);
    plain[i] = {*reinterpret_cast<const uint32_t*>(&first), *reinterpret_cast<const uint32_t*>(&second)};
  }
}

/// Scores of kParts tiles of 16 positions of a page, from tile `part` on: positions 16 i + r (first two) and
/// 16 i + 8 + r.
template <int kTiles, int kParts>
using Scores = float[kTiles][kParts][4];
template <int kTiles, int kParts>
using Sums = int[kTiles][kParts][4];

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
__device__ inline void reset(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low, const Zero& zero) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) high[tile][i][j] = low[tile][i][j] = zero[j];
}

/// s += sums times the positions' norms (pair; null: one) and what one is of the longest row. kFirst: s =.
template <int kTiles, int kParts, bool kFirst = false>
__device__ inline void take_sums(Scores<kTiles, kParts>& s, const Sums<kTiles, kParts>& high,
                                 const Sums<kTiles, kParts>& low, const uint32_t* pair, float longest_row,
                                 int part) {
  const float one = longest_row / (kQuerySteps * kByteOne);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const float2 x = pair ? unpack2(pick<4>(pair, part + i)) : make_float2(1, 1);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float sum = fmaf(__int_as_float(high[tile][i][j]) - kZeroRead, 256.0f,
                               __int_as_float(low[tile][i][j]) - kZeroRead);
        const float unit = (j < 2 ? x.x : x.y) * one;
        s[tile][i][j] = kFirst ? sum * unit : fmaf(sum, unit, s[tile][i][j]);
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
/// number where it is known and even; the sums then begin here.
template <int kTiles, int kParts, int kBits, int kCount>
__device__ void sum_run(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low, const uint8_t* codes,
                        uint2 book, const uint2* queries, int count, int part, const Zero& zero) {
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
      uint32_t a[4];
      look_up<kBits>(book, x, a[0], a[1]);
      look_up<kBits>(book, y, a[2], a[3]);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        if (kCount > 0 && slab == 0) {
          mma_first<false>(high[tile][i], a, b[tile][0].x, b[tile][1].x, zero);
          mma_first<false>(low[tile][i], a, b[tile][0].y, b[tile][1].y, zero);
        } else {
          mma<false>(high[tile][i], a, b[tile][0].x, b[tile][1].x);
          mma<false>(low[tile][i], a, b[tile][0].y, b[tile][1].y);
        }
      }
    }
  }
  if (kCount > 0 || n % 2 == 0) return;
  uint32_t words[kBits];
  load_words<kBits>(words, codes + (n - 1) * 128 * kBits, unit_lane, false);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    uint32_t a[2];
    look_up<kBits>(book, nibbles<kBits>(words, part + i), a[0], a[1]);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 b = queries[((n - 1) * kTiles + tile) * 32 + lane];
      mma(high[tile][i], a, b.x);
      mma(low[tile][i], a, b.y);
    }
  }
}

/// s = keys . prepared queries, all coordinates of kBits.
template <int kDim, int kTiles, int kParts, int kBits>
__device__ void score_uniform(Scores<kTiles, kParts>& s, const uint8_t* block, const uint8_t* shared,
                              const PackedTable& t, const Queries& queries, int part, int valid,
                              const Zero& zero) {
  Sums<kTiles, kParts> high, low;
  const uint2 book = *reinterpret_cast<const uint2*>(shared + t.runs[0].book);
  sum_run<kTiles, kParts, kBits, kDim / 16>(high, low, block, book, queries.fixed, 0, part, zero);
  uint32_t pair[4];
  load_norms(pair, block + t.key_norms, threadIdx.x % 32 / 4, valid);
  take_sums<kTiles, kParts, true>(s, high, low, pair, 1, part);
}

/// s = keys . prepared queries, as the table says. kRunsOnly: it has no slabs of several groups or wide ones.
template <int kTiles, int kParts, bool kRunsOnly>
__device__ void score_keys(Scores<kTiles, kParts>& s, const uint8_t* block, const uint8_t* shared,
                           const PackedTable& t, const Queries& queries, int part, int valid,
                           const Zero& zero) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const UnitEntry* units = units_of(shared);
  Sums<kTiles, kParts> high, low;
  reset<kTiles, kParts>(high, low, zero);
  uint32_t pair[4];
  const bool norms_last = !kRunsOnly && t.wide_keys && !t.group_norms;
  const auto take = [&](int norm) {
    if (!norms_last) load_norms(pair, block + t.key_norms + 128 * norm, r, valid);
    take_sums<kTiles, kParts>(s, high, low, norms_last ? nullptr : pair, t.longest_row[norm], part);
  };
#pragma unroll 1
  for (int i = 0; i < t.n_runs; ++i) {
    const SlabRun run = t.runs[i];
    const uint2 book = *reinterpret_cast<const uint2*>(shared + run.book);
    const uint8_t* codes = block + run.offset;
    const uint2* b = queries.fixed + run.first * kTiles * 32;
    switch (run.bits) {
      case 1:
        sum_run<kTiles, kParts, 1, 0>(high, low, codes, book, b, run.count, part, zero);
        break;
      case 2:
        sum_run<kTiles, kParts, 2, 0>(high, low, codes, book, b, run.count, part, zero);
        break;
      case 3:
        sum_run<kTiles, kParts, 3, 0>(high, low, codes, book, b, run.count, part, zero);
        break;
      default:
        sum_run<kTiles, kParts, 4, 0>(high, low, codes, book, b, run.count, part, zero);
    }
    if (t.group_norms) {
      take(run.norm);
      reset<kTiles, kParts>(high, low, zero);
    }
  }
  for (uint32_t mixed = kRunsOnly ? 0 : t.mixed_keys; mixed;
       mixed &= mixed - 1) {  // with a norm per group these are wide
    const int slab = __ffs(int(mixed)) - 1;
    Bytes a;
    unpack(units[4 * slab + c], block, shared, r, a);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 b = queries.fixed[(slab * kTiles + tile) * 32 + lane];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (kParts == 4 || i / kParts == part / kParts) {
          mma(high[tile][i % kParts], a[i], b.x);
          mma(low[tile][i % kParts], a[i], b.y);
        }
    }
    if (t.group_norms) {  // a slab that is not full
      take(units[4 * slab].norm);
      reset<kTiles, kParts>(high, low, zero);
    }
  }
  if (!t.group_norms) take(0);
  for (uint32_t wide = kRunsOnly ? 0 : t.wide_keys; wide; wide &= wide - 1) {
    const int slab = __ffs(int(wide)) - 1;
    const UnitEntry e = units[4 * slab + c];
    Operands a;
    unpack(e, block, shared, r, a);
    if (t.group_norms) {
      load_norms(pair, block + t.key_norms + 128 * e.norm, r, valid);
      scale_rows(a, pair);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 b = queries.wide[(slab * kTiles + tile) * 32 + lane];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (kParts == 4 || i / kParts == part / kParts) mma(s[tile][i % kParts], a[i], b.x, b.y);
    }
  }
  if (norms_last) {
    load_norms(pair, block + t.key_norms, r, valid);
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

}  // namespace blockgtq::cuda
