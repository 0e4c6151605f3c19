// The attention of attention.cu on tensor cores, for heads of usual dimensions without a softcap. It is
// as exact as float32: an operand x is the sum of two TF32 numbers, hi the nearest to x and lo the
// nearest to x - hi, and a product is hi hi + hi lo + lo hi, accumulated in float32. What is left out is
// below 2^-21 of it.
//
// A block of four warps owns 64 queries of one head and walks over the chunk's keys, 32 at a time. A warp
// has 16 of the queries, with their running maximum m, sum l and output o in registers. (With 32 queries per
// warp only eight warps fit on a multiprocessor, which takes three quarters of the time of the float32
// kernel at D = 64.)
//
//   shared   Q (64, dim + 8)   K (32, dim + 8)   V (32, v_dim + 4)
//
// The order of a product's terms is free as long as both operands agree. Lane (g, t) of 8 x 4 has the terms
// 2 t and 2 t + 1 of every eight where the instruction has t and t + 4. So q and k are read eight bytes at a
// time, and the scores lie in registers as the A fragment of the second product. The columns of padding
// spread what a warp reads over all banks.
#pragma once
#include <cfloat>

#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/forward/attention.h"

namespace blockgtq::cuda {

template <int kDim, int kVDim>
struct TensorTile {
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kQueries = kWarps * 16, kKeys = 32;
  // Blocks per multiprocessor: as many as the registers allow.
  static constexpr int kBlocks = kVDim <= 64 ? 5 : kVDim <= 128 ? 3 : 1;
  float q[kQueries][kDim + 8];
  float k[kKeys][kDim + 8];
  float v[kKeys][kVDim + 4];
};

/// Elements of an operand as two TF32 numbers each.
template <int kCount>
struct Split {
  uint32_t hi[kCount], lo[kCount];

  __device__ void set(int i, float x) {
    hi[i] = to_tf32(x);
    lo[i] = to_tf32(x - __uint_as_float(hi[i]));
  }
};

/// d (16, 8) += a (16, 8) b (8, 8).
__device__ inline void mma_split(float (&d)[4], const Split<4>& a, const Split<2>& b) {
  mma_tf32(d, a.lo, b.hi);
  mma_tf32(d, a.hi, b.lo);
  mma_tf32(d, a.hi, b.hi);
}

/// Loads rows x kWidth values. Rows from `valid` on and columns from `width` on become zeros.
template <int kWidth, int kPitch, int kThreads>
__device__ void load_rows(float (*to)[kPitch], int rows, const float* from, int64_t stride, int64_t valid,
                          int64_t width = kWidth) {
  for (int i = threadIdx.x; i < rows * kWidth; i += kThreads) {
    const int row = i / kWidth, column = i % kWidth;
    to[row][column] = row < valid && column < width ? from[row * stride + column] : 0.0f;
  }
}

/// The maximum and the sum over the four lanes that share a row.
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kWholeWarp, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(kWholeWarp, x, 1);
  return x + __shfl_xor_sync(kWholeWarp, x, 2);
}

/// s = the products of the warp's queries, from row `base` of the tile on, with the 32 keys.
template <class Tile, int kDim>
__device__ void tensor_scores(const Tile& tile, int base, int g, int t, float (&s)[4][4]) {
  for (int n = 0; n < 4; ++n)
    for (float& x : s[n]) x = 0;
#pragma unroll 2
  for (int d = 0; d < kDim; d += 8) {
    const float2 upper = *reinterpret_cast<const float2*>(&tile.q[base + g][d + 2 * t]),
                 lower = *reinterpret_cast<const float2*>(&tile.q[base + g + 8][d + 2 * t]);
    Split<4> q;
    q.set(0, upper.x), q.set(1, lower.x), q.set(2, upper.y), q.set(3, lower.y);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float2 key = *reinterpret_cast<const float2*>(&tile.k[8 * n + g][d + 2 * t]);
      Split<2> k;
      k.set(0, key.x), k.set(1, key.y);
      mma_split(s[n], q, k);
    }
  }
}

/// o += P V over the tile's keys; p is as tensor_scores() leaves it.
template <class Tile, int kVDim>
__device__ void tensor_add_values(const Tile& tile, int g, int t, const float (&p)[4][4],
                                  float (&o)[kVDim / 8][4]) {
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    Split<4> weights;
    weights.set(0, p[n][0]), weights.set(1, p[n][2]), weights.set(2, p[n][1]), weights.set(3, p[n][3]);
#pragma unroll
    for (int c = 0; c < kVDim / 8; ++c) {
      Split<2> v;
      v.set(0, tile.v[8 * n + 2 * t][8 * c + g]), v.set(1, tile.v[8 * n + 2 * t + 1][8 * c + g]);
      mma_split(o[c], weights, v);
    }
  }
}

template <int kDim, int kVDim, class Out>
__global__ void __launch_bounds__(TensorTile<kDim, kVDim>::kThreads, TensorTile<kDim, kVDim>::kBlocks)
    tensor_attention_kernel(AttentionProblem a, int64_t n_chunks, int64_t n_tiles, Out* out) {
  using Tile = TensorTile<kDim, kVDim>;
  extern __shared__ float4 shared[];
  Tile& tile = *reinterpret_cast<Tile*>(shared);
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, base = int(threadIdx.x / 32) * 16;
  // The tiles with most keys come first, so that the multiprocessors end together.
  const int64_t per_tile = n_chunks * a.n_heads, index = blockIdx.x, rest = index % per_tile;
  const int64_t q0 = (n_tiles - 1 - index / per_tile) * Tile::kQueries;  // within the chunk
  const int64_t start = rest / a.n_heads * a.chunk, head = rest % a.n_heads, kv_head = head / a.group;
  const int64_t length = min(a.chunk, a.n_tokens - start);
  if (q0 >= length) return;  // the last chunk is shorter

  load_rows<kDim, kDim + 8, Tile::kThreads>(tile.q, Tile::kQueries,
                                            a.q.data + (start + q0) * a.q.stride + head * a.q.head_stride,
                                            a.q.stride, length - q0);
  float m[2], l[2], o[kVDim / 8][4];  // rows g and g + 8; l: this lane's part
  for (int r = 0; r < 2; ++r) {
    // m does not begin at -infinity: a query may see no key of the first tiles. A sink that is NaN stays NaN.
    const float sink = a.sinks ? a.sinks[head] : -FLT_MAX;
    m[r] = sink < -FLT_MAX ? -FLT_MAX : sink;
    l[r] = a.sinks && t == 0 ? 1 : 0;
  }
  for (int c = 0; c < kVDim / 8; ++c)
    for (float& x : o[c]) x = 0;

  const int64_t p0 = a.past + q0, n_keys = a.past + length;
  const int64_t end = min(p0 + Tile::kQueries, n_keys), own = p0 + base;  // own: this warp's first query
  const auto window = uint32_t(min(a.window, int64_t(INT32_MAX)));
  for (int64_t k0 = max(p0 - a.window + 1, int64_t(0)) / Tile::kKeys * Tile::kKeys; k0 < end;
       k0 += Tile::kKeys) {
    __syncthreads();  // nobody reads the previous tiles any more
    load_rows<kDim, kDim + 8, Tile::kThreads>(
        tile.k, Tile::kKeys, a.k.data + (start + k0) * a.k.stride + kv_head * a.k.head_stride, a.k.stride,
        n_keys - k0);
    load_rows<kVDim, kVDim + 4, Tile::kThreads>(
        tile.v, Tile::kKeys, a.v.data + (start + k0) * a.v.stride + kv_head * a.v.head_stride, a.v.stride,
        n_keys - k0);
    __syncthreads();
    // The tile lies behind all of the warp's queries, or before their windows.
    if (k0 >= own + 16 || k0 + Tile::kKeys <= own - a.window + 1) continue;
    float s[4][4];
    tensor_scores<Tile, kDim>(tile, base, g, t, s);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int ahead = int(own - k0) + 8 * r + g - 2 * t;  // from the lane's first key to the query
      float top = m[r];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int j = 2 * r; j < 2 * r + 2; ++j) {
          const auto back = uint32_t(ahead - 8 * n - j % 2);  // a later key wraps beyond any window
          s[n][j] = back < window ? s[n][j] * a.scale : -INFINITY;
          top = fmaxf(top, s[n][j]);
        }
      }
      top = quad_max(top);
      const float shrink = expf(m[r] - top);
      float sum = 0;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int j = 2 * r; j < 2 * r + 2; ++j) sum += s[n][j] = expf(s[n][j] - top);
      }
      m[r] = top;
      l[r] = l[r] * shrink + sum;
#pragma unroll
      for (int c = 0; c < kVDim / 8; ++c) o[c][2 * r] *= shrink, o[c][2 * r + 1] *= shrink;
    }
    tensor_add_values<Tile, kVDim>(tile, g, t, s, o);
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float sum = quad_sum(l[r]);
    const int64_t query = q0 + base + 8 * r + g;
    if (query >= length) continue;
    Out* row = out + ((start + query) * a.n_heads + head) * kVDim;
    const float* gate =
        a.gate.data ? a.gate.data + (start + query) * a.gate.stride + head * a.gate.head_stride : nullptr;
#pragma unroll
    for (int c = 0; c < kVDim / 8; ++c) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = 8 * c + 2 * t + j;
        float result = o[c][2 * r + j] / sum;
        if (gate) result /= 1.0f + expf(-gate[column]);
        store(row + column, result);
      }
    }
  }
}

}  // namespace blockgtq::cuda
