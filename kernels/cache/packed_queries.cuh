// Queries as operands of the tensor cores: B^T q in fixed point, by pairs of slabs. Part of
// packed_attention.cu.
#pragma once
#include "kernels/cache/unpack.cuh"
#include "kernels/device/float_type.cuh"

namespace blockgtq::cuda {

/// Added to the squares of bounds. It covers the products of weights with numbers of q below 1e-3, which
/// rounding to fp16 loses.
constexpr float kLeastSquare = 2e-9f;

/// Queries of this block's heads as B operands, in shared memory.
struct Queries {
  // (B^T q) / bound / the norm's longest row, in fixed point. A product of two halves has
  // (tiles, 32, 16): high bytes of both halves, low bytes of both. A product of one half has
  // (tiles, 32, 8): high bytes, low bytes.
  uint8_t* fixed;
  uint2* wide;  // (slabs, tiles, 32): (B^T q) / bound as fp16, where slabs are wide
  // (D / 16, tiles, 32): q itself as fp16, by rotary blocks, where keys are centred.
  uint2* plain;
  float* bounds;  // (8 tiles, 2): |W q|, see PackedLayer::query_weights, and its inverse
};

/// q itself in shared memory is (8 tiles, D + 8) fp16. The last 8 keep rows on different banks.
template <int kDim>
constexpr int kQueryPitch = kDim + 8;

/// Copies queries of fp16 or bf16 to shared memory. Heads beyond the group are zero.
template <int kDim, int kTiles>
__device__ inline void load_queries(const uint16_t* q, bool bf16, int n_heads, __half* rows) {
  constexpr int kPieces = kDim / 8;  // 16-byte pieces of a row
  for (int i = threadIdx.x; i < 8 * kTiles * kPieces; i += blockDim.x) {
    const int head = i / kPieces, piece = i % kPieces;
    uint4 x = head < n_heads ? reinterpret_cast<const uint4*>(q + head * kDim)[piece] : uint4{};
    x = {to_halves(x.x, bf16), to_halves(x.y, bf16), to_halves(x.z, bf16), to_halves(x.w, bf16)};
    reinterpret_cast<uint4*>(rows + head * kQueryPitch<kDim>)[piece] = x;
  }
}

/// The QueryRow of row `place` of a slab, where all coordinates have kBits.
template <int kBits>
__device__ inline QueryRow uniform_row(int slab, int place) {
  const int half = kBits == 4 ? 2 * slab : slab / 2 * 2, second = kBits == 4 ? 0 : slab % 2 * 4;
  QueryRow row;
  row.at = 256 * half + place % 8 / 2 * 16 + second + place / 8 * 2 + place % 2;
  row.pitch = 64;
  row.twice = kBits == 4;
  return row;
}

/// Sixteen rows of the query map, and what a warp needs for them. kBits: the width of all coordinates; 0 or
/// less: as the layer says.
template <int kDim, int kBits>
struct QueryMap {
  static constexpr int kSteps = kDim / 16;
  uint4 m[kSteps];
  QueryRow row[2];        // of rows r and r + 8
  uint2 weights[kSteps];  // W^2 at this lane's depths of all of q, where there are several widths
  __device__ void load(const PackedLayer& layer, int kv_head, int sixteenth) {
    if (sixteenth >= kSteps) return;
    const int lane = threadIdx.x % 32;
    const uint4* from = static_cast<const uint4*>(layer.query_map) +
                        (int64_t(kv_head) * kSteps + sixteenth) * kSteps * 32 + lane;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) m[k] = from[32 * k];
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if constexpr (kBits > 0)
        row[i] = uniform_row<kBits>(sixteenth, lane / 4 + 8 * i);
      else
        row[i] = layer.query_rows[kv_head * kDim + 16 * sixteenth + lane / 4 + 8 * i];
  }
  __device__ void load_weights(const PackedLayer& layer, int kv_head) {
    if (threadIdx.x >= 32 * kSteps) return;
    if constexpr (kBits <= 0) {
      const uint2* from =
          static_cast<const uint2*>(layer.query_weights) + kv_head * kSteps * 4 + threadIdx.x % 4;
#pragma unroll
      for (int k = 0; k < kSteps; ++k) weights[k] = from[4 * k];
    }
  }
};

/// Multiplies queries by the query map and stores them as operands. rows: see load_queries(). map holds this
/// warp's first rows, and the weights. kBits: as above. Where it is 0 or less, `to` has been set to zero.
/// Where it is less, no slab is wide.
template <int kDim, int kTiles, int kBits>
__device__ void prepare_queries(const PackedLayer& layer, int kv_head, const __half* rows,
                                QueryMap<kDim, kBits>& map, const Queries& to) {
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
  float y[kTiles][2][4];  // row r or r + 8, head 2 c or 2 c + 1; two chains halve the latency
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
  multiply();                // for the first rows, while the bounds are computed
  float inverse[kTiles][2];  // 1 / bound of heads 2 c, 2 c + 1
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    // The A fragment has W^2 q of head r at depths 2 c in row r, and at depths 8 + 2 c in row r + 8. Its
    // product with q at the same depths is the square of a bound where row and column are the same head.
    float of_first[4], of_second[4];
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const uint32_t(&q)[2] = b[tile][k];
      uint32_t a[2] = {q[0], q[1]};
      if constexpr (kBits <= 0) {
        const uint2 w = map.weights[k];
        a[0] = multiply2(a[0], w.x), a[1] = multiply2(a[1], w.y);
      }
      if (k == 0) {
        mma_first(of_first, a, q[0]);
        mma_first(of_second, a, q[1]);
      } else {
        mma(of_first, a, q[0]);
        mma(of_second, a, q[1]);
      }
    }
    float bound[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float square = __shfl_sync(kAll, of_first[j] + of_second[2 + j], 9 * c + 4 * j) + kLeastSquare;
      inverse[tile][j] = rsqrt_fast(square);
      bound[j] = square * inverse[tile][j];
    }
    if (warp == 0 && r == 0)
      reinterpret_cast<float4*>(to.bounds)[4 * tile + c] = {bound[0], inverse[tile][0], bound[1],
                                                            inverse[tile][1]};
  }
#pragma unroll 1
  for (int sixteenth = warp;;) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const QueryRow& of = map.row[j / 2];
        const float x = (y[tile][0][j] + y[tile][1][j]) * inverse[tile][j % 2];
        const int head = 8 * tile + 2 * c + j % 2;
        // fixed is at most 127 x 256, and 0.4 % more that roundings to fp16 do not reach. So high
        // is 127 at most.
        const int fixed = __float2int_rn(x * (kBits == 0 ? of.steps : kQuerySteps)),
                  high = (fixed + 128) >> 8;
        int8_t* const bytes =
            reinterpret_cast<int8_t*>(to.fixed) + of.at + (kTiles - 1) * (of.at & ~255) + head * of.pitch;
        bytes[0] = int8_t(high);
        bytes[of.pitch / 8] = int8_t(fixed - 256 * high);
        const bool twice = kBits > 0 ? kBits == 4 : of.twice;
        if (twice) bytes[4] = int8_t(high);
        if (twice) bytes[12] = int8_t(fixed - 256 * high);
        if (kBits == 0 && of.wide >= 0)
          reinterpret_cast<__half*>(to.wide + (of.wide / 16 * kTiles + tile) * 32 + 4 * (head % 8) +
                                    of.wide / 4 % 4)[of.wide % 4] = __float2half_rn(x);
      }
    sixteenth += n_warps;
    if (sixteenth >= kSteps) break;
    map.load(layer, kv_head, sixteenth);
    multiply();
  }
}

/// For centred keys: starts to copy R_j mean of this head, j being the positions of a page. It is there after
/// wait_for_lines().
template <int kDim>
__device__ void load_mean(const PackedLayer& layer, int kv_head, uint4* mean) {
  constexpr int kWords = 4 * (kDim / 16) * 32;
  for (int i = threadIdx.x; i < kWords; i += blockDim.x)
    copy_line(mean + i, static_cast<const uint4*>(layer.key_mean) + int64_t(kv_head) * kWords + i);
}

/// The queries themselves as operands, by rotary blocks.
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
