// Lengths |z| before any code is known, and |c| afterwards, one of each per position and norm. Part of
// packed_encode.cu.
#pragma once
#include "kernels/cache/packed_codes.cuh"

namespace blockgtq::cuda {

/// The sum over the lanes that share positions: the four of a quad (keys), or the eight of a column (values).
template <bool kKeys>
__device__ inline float sum_lanes(float x) {
#pragma unroll
  for (int apart = kKeys ? 1 : 4; apart < (kKeys ? 4 : 32); apart *= 2) x += __shfl_xor_sync(kAll, x, apart);
  return x;
}

/// The lane's i-th position of a tile.
template <bool kKeys>
__device__ inline int position_of(int i) {
  const int lane = threadIdx.x % 32;
  return kKeys ? 8 * i + lane / 4 : 8 * (i / 2) + 2 * (lane % 4) + i % 2;
}

/// scale = 1 / |z| of the lane's positions. Sets the sums to zero.
template <bool kKeys, int kTiles>
__device__ inline void take_scale(const float* inverse, int norm, PerPosition<kKeys> (&scale)[kTiles],
                                  PerPosition<kKeys> (&sums)[kTiles]) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < (kKeys ? 2 : 4); ++i) {
      scale[tile][i] = inverse[(norm * kTiles + tile) * 16 + position_of<kKeys>(i)];
      sums[tile][i] = 0;
    }
}

/// Adds up a norm's |c|^2 over the lanes and stores it.
template <bool kKeys, int kTiles>
__device__ inline void put_sums(float* of_c2, int norm, const PerPosition<kKeys> (&sums)[kTiles]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < (kKeys ? 2 : 4); ++i) {
      const float c2 = sum_lanes<kKeys>(sums[tile][i]);
      if (kKeys ? lane % 4 == 0 : lane / 4 == 0)
        of_c2[(norm * kTiles + tile) * 16 + position_of<kKeys>(i)] = c2;
    }
}

/// inverse (norm, tiles, 16) = 1 / |z|.
template <int kSteps, bool kKeys>
__device__ __forceinline__ void find_lengths(const TileRows<kSteps>& x, const EncodeSide& side,
                                             const __half* weights, const uint4* forward, int n_slabs,
                                             float* inverse) {
  constexpr int kTiles = kTilesAtOnce<kSteps>;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  if (side.diagonal) {  // |z|^2 is the diagonal of (x w) x^T
    const auto lengths = [&](auto weighed, int norm) {
      // As they lie in registers, the low depths of a position are row r of the A fragment, and its high
      // depths row r + 8. Each is multiplied with its own columns.
      float sums[kTiles][2][2][4];  // (tile, half of the positions, low or high depths)
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        uint2 w{};
        if constexpr (weighed)
          w = reinterpret_cast<const uint2*>(weights + norm * kSteps * 16)[8 * (s / 2) + 2 * c + s % 2];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint32_t b[2] = {x[tile][s][half], x[tile][s][2 + half]};
            uint32_t m[2] = {b[0], b[1]};
            if constexpr (weighed) m[0] = multiply2(m[0], w.x), m[1] = multiply2(m[1], w.y);
#pragma unroll
            for (int i = 0; i < 2; ++i)
              if (s == 0)
                mma_first(sums[tile][half][i], m, b[i]);
              else
                mma(sums[tile][half][i], m, b[i]);
          }
      }
      if (c == r / 2)
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const float(&y)[2][4] = sums[tile][half];
            const float square =
                ((r % 2 ? y[0][1] : y[0][0]) + (r % 2 ? y[1][3] : y[1][2])) * side.weight_scale[norm];
            inverse[(norm * kTiles + tile) * 16 + 8 * half + r] = square > 0 ? rsqrt_fast(square) : 0.0f;
          }
    };
#pragma unroll 1
    for (int norm = 0; norm < side.n_norms; ++norm)
      if (side.weighed)
        lengths(std::true_type(), norm);
      else
        lengths(std::false_type(), norm);
  } else {  // there is one norm
    PerPosition<kKeys> sum[kTiles] = {};
    ForwardStream stream(forward);
#pragma unroll 1
    for (int slab = 0; slab < n_slabs; ++slab) {
      TileCoordinates<kSteps> y;
      multiply<kSteps, kKeys>(y, x, stream);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const float z = y[tile][j / 2][2 * (j % 2) + e];
            sum[tile][slot<kKeys>(j, e)] = fmaf(z, z, sum[tile][slot<kKeys>(j, e)]);
          }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < (kKeys ? 2 : 4); ++i) {
        const float square = sum_lanes<kKeys>(sum[tile][i]);
        if (kKeys ? c == 0 : r == 0)
          inverse[16 * tile + position_of<kKeys>(i)] = square > 0 ? rsqrt_fast(square) : 0.0f;
      }
  }
  __syncwarp();
}

}  // namespace blockgtq::cuda
