// Queries as operands of the tensor cores: B^T q in fixed point, pair by pair of slabs. Part of
// packed_attention.cu.
#pragma once
#include "unpack.cuh"

namespace blockgtq::cuda {

constexpr float kQuerySteps = 127 * 256;  // fixed point of q: the longest row of a norm is 127 x 256

/// Queries of this block's heads as the B operands of every slab, in shared memory.
struct Queries {
  uint4* fixed;    // (pairs, tiles, 32): high bytes of both slabs, low bytes of both, of (B^T q) / |q| / the
                   // norm's longest row
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

/// rows: see load_queries(). table: of this head, in shared memory. map holds the rows of slab `warp`. kBits:
/// of all coordinates, slabs in their order; 0: see the table, and to.fixed is zero before.
template <int kDim, int kTiles, int kBits>
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
    int place = kBits > 3 ? 2 * slab : slab, norm = 0;
    bool signs = kBits > 3;  // -q as well
    if (kBits == 0) {
      const UnitEntry e = slab < t.key_slabs ? units_of(table)[4 * slab + r / 2] : UnitEntry{};
      place = e.place, norm = e.norm, signs = e.bits > 3;
    }
    const float steps = kBits > 0 ? kQuerySteps : __fdividef(kQuerySteps, t.longest_row[norm]);
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
        const int lane_to = 4 * (2 * c + j % 2) + r / 2, byte = r % 2 + j / 2 * 2;
        const int fixed = __float2int_rn(x * steps), high = min((fixed + 128) >> 8, 127);
        const int low = max(min(fixed - 256 * high, 127), -127);
        if (place >= 0) {
          int8_t* bytes = reinterpret_cast<int8_t*>(to.fixed + (place / 2 * kTiles + tile) * 32 + lane_to) +
                          place % 2 * 4 + byte;
          bytes[0] = int8_t(high), bytes[8] = int8_t(low);
          if (signs) bytes[4] = int8_t(-high), bytes[12] = int8_t(-low);
        }
        if (layer.wide_keys)
          reinterpret_cast<__half*>(to.wide + (slab * kTiles + tile) * 32 + lane_to)[byte] =
              __float2half_rn(x);
      }
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
