// What the decode attention kernels have in common: the context cut into splits, a warp's running result, the
// warps of a block become one. merge.cu does the rest.
#pragma once
#include <cuda_runtime.h>

#include "launch.cuh"
#include "ptx.cuh"

namespace blockgtq::cuda {

/// The items of a split, of all that a sequence has: [first, first + n).
struct Range {
  int first, last;
};
__device__ inline Range items_of(int first, int n, int split, int splits) {
  return {first + int(int64_t(n) * split / splits), first + int(int64_t(n) * (split + 1) / splits)};
}

/// The running result of a warp: heads 8 tile + 2 c and the next.
template <int kSlabs, int kTiles>
struct State {
  float o[kSlabs][kTiles][4] = {};  // rows r and r + 8 of a slab
  float m[kTiles][2], l[kTiles][2];
};

/// Sums of weights and outputs, which were relative to a smaller maximum.
template <int kSlabs, int kTiles>
__device__ inline void shrink_state(State<kSlabs, kTiles>& state, const float (&factor)[kTiles][2]) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      state.l[tile][j] *= factor[tile][j];
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
        state.o[slab][tile][j] *= factor[tile][j];
        state.o[slab][tile][j + 2] *= factor[tile][j];
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

}  // namespace blockgtq::cuda
