// Queries as operands of the tensor cores: B^T q in fixed point, pair by pair of slabs. Part of
// packed_attention.cu.
#pragma once
#include "unpack.cuh"

namespace blockgtq::cuda {

/// Queries of this block's heads as B operands, in shared memory.
struct Queries {
  uint8_t* fixed;  // (B^T q) / |q| / the norm's longest row. Products of two halves (tiles, 32, 16): high
                   // bytes of both halves, low bytes of both; of one (tiles, 32, 8): high bytes, low bytes
  uint2* wide;     // (slabs, tiles, 32): (B^T q) / |q| as fp16, where there are wide slabs
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

/// Sixteen rows of the query map.
template <int kDim>
struct QueryMap {
  uint4 m[kDim / 16];
  __device__ void load(const PackedLayer& layer, int kv_head, int sixteenth) {
    constexpr int kSteps = kDim / 16;
    if (sixteenth >= kSteps) return;
    const uint4* from = static_cast<const uint4*>(layer.query_map) +
                        (int64_t(kv_head) * kSteps + sixteenth) * kSteps * 32 + threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) m[k] = from[32 * k];
  }
};

/// Row `place` of slab number `slab` where all coordinates have kBits.
template <int kBits>
__device__ inline QueryRow uniform_row(int slab, int place) {
  constexpr bool kSigned = kBits > 3;
  QueryRow row;
  row.steps = kQuerySteps;
  row.half = int16_t(kSigned ? 2 * slab : slab / 2 * 2);
  row.place = uint8_t(place % 8 / 2 * 16 + (kSigned ? 0 : slab % 2 * 4) + place / 8 * 2 + place % 2);
  row.pitch = 64;
  row.negative = kSigned;
  return row;
}

/// rows: see load_queries(). table: of this head, in shared memory. map holds the rows of this warp. kBits:
/// of all coordinates; else see the table, and `to` is zero before; below zero: no slab is wide.
template <int kDim, int kTiles, int kBits>
__device__ void prepare_queries(const PackedLayer& layer, int kv_head, const __half* rows,
                                const uint8_t* table, QueryMap<kDim>& map, const Queries& to) {
  constexpr int kSteps = kDim / 16;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4,
            n_warps = blockDim.x / 32;
  if (warp >= kSteps) return;
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
  float y[kTiles][2][4];  // row r or r + 8, head 2 c or 2 c + 1; two chains: half the latency
  const auto multiply = [&] {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const uint32_t operand[4] = {map.m[k].x, map.m[k].y, map.m[k].z, map.m[k].w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
        if (k < 2)
          mma_first(y[tile][k], operand, b[tile][k][0], b[tile][k][1]);
        else
          mma(y[tile][k % 2], operand, b[tile][k][0], b[tile][k][1]);
    }
  };
  const QueryRow* const all_rows =
      reinterpret_cast<const QueryRow*>(table + reinterpret_cast<const PackedTable*>(table)->rows);
  QueryRow row[2];
  const auto find_rows = [&](int sixteenth) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if constexpr (kBits > 0)
        row[i] = uniform_row<kBits>(sixteenth, r + 8 * i);
      else
        row[i] = all_rows[16 * sixteenth + r + 8 * i];
  };
  find_rows(warp);
  multiply();                         // the first rows, while lengths are found
  float left[kTiles], right[kTiles];  // 1 / |q| of heads 2 c, 2 c + 1
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float squares[4] = {};
#pragma unroll
    for (int k = 0; k < kSteps; ++k)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float2 x = unpack2(b[tile][k][i]);
        squares[2 * i] = fmaf(x.x, x.x, squares[2 * i]);
        squares[2 * i + 1] = fmaf(x.y, x.y, squares[2 * i + 1]);
      }
    float square = (squares[0] + squares[1]) + (squares[2] + squares[3]);
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
  for (int sixteenth = warp;;) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const QueryRow& of = row[j / 2];
        const float x = (y[tile][0][j] + y[tile][1][j]) * (j % 2 ? right[tile] : left[tile]);
        const int head = 8 * tile + 2 * c + j % 2;
        // At most 127 x 256, and as much more as rows rounded to fp16 are too long: high is 127 at most.
        const int fixed = __float2int_rn(x * of.steps), high = (fixed + 128) >> 8;
        const int low = max(fixed - 256 * high, -127);
        int8_t* const bytes =
            reinterpret_cast<int8_t*>(to.fixed) + of.half * 256 * kTiles + head * of.pitch + of.place;
        bytes[0] = int8_t(high);
        bytes[of.pitch / 8] = int8_t(low);
        const bool negative = kBits > 0 ? kBits > 3 : of.negative;
        if (negative) bytes[4] = int8_t(-high);
        if (negative) bytes[12] = int8_t(-low);
        if (kBits == 0 && of.wide >= 0)
          reinterpret_cast<__half*>(to.wide + (of.wide / 16 * kTiles + tile) * 32 + 4 * (head % 8) +
                                    of.wide / 4 % 4)[of.wide % 4] = __float2half_rn(x);
      }
    sixteenth += n_warps;
    if (sixteenth >= kSteps) break;
    find_rows(sixteenth);
    map.load(layer, kv_head, sixteenth);
    multiply();
  }
}

/// For centred keys: R_j mean of this head, j the positions of a page; there after wait_for_lines().
template <int kDim>
__device__ void load_mean(const PackedLayer& layer, int kv_head, uint4* mean) {
  constexpr int kWords = 4 * (kDim / 16) * 32;
  for (int i = threadIdx.x; i < kWords; i += blockDim.x)
    copy_line(mean + i, static_cast<const uint4*>(layer.key_mean) + int64_t(kv_head) * kWords + i);
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

}  // namespace blockgtq::cuda
