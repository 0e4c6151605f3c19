// What the decode attention kernels share: the cutting of the context into splits, a warp's running result,
// and the combining of a block's warps. merge.cu does the rest.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cache/merge.h"
#include "kernels/device/launch.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/range.cuh"

namespace blockgtq::cuda {

/// The number of splits for a device with this number of multiprocessors, one block on each. The merge has
/// multiprocessors of its own, where that costs a split no more than `spare` of its items. It then waits
/// beside the attention kernel, and the blocks of the next step do not wait for it.
inline int splits_on(int64_t multiprocessors, int64_t blocks_per_split, int64_t merges, int64_t items,
                     int64_t spare) {
  const auto fit = [&](int64_t n) { return std::clamp<int64_t>(n / blocks_per_split, 1, kMostSplits); };
  const int64_t all = fit(multiprocessors), fewer = fit(multiprocessors - merges);
  return int(merges < multiprocessors && items / fewer <= items / all + spare ? fewer : all);
}

/// The running result of a warp, for heads 8 tile + 2 c and the next. The last slabs of o may be sums of
/// weights by centre (value_centres.cuh) and not of values.
template <int kSlabs, int kTiles>
struct State {
  float o[kSlabs][kTiles][4] = {};  // rows r and r + 8 of a slab
  float m[kTiles][2], l[kTiles][2];
  float c[kTiles][2] = {};       // the part of l that positions have whose value does not keep its mean
  float excess[kTiles][2] = {};  // what every number of o is too large by
};

/// Scales sums of weights and outputs, which were relative to a smaller maximum.
template <int kSlabs, int kTiles>
__device__ inline void shrink_state(State<kSlabs, kTiles>& state, const float (&factor)[kTiles][2]) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      state.l[tile][j] *= factor[tile][j];
      state.c[tile][j] *= factor[tile][j];
      state.excess[tile][j] *= factor[tile][j];
#pragma unroll
      for (int slab = 0; slab < kSlabs; ++slab) {
        state.o[slab][tile][j] *= factor[tile][j];
        state.o[slab][tile][j + 2] *= factor[tile][j];
      }
    }
}

/// At least the static shared memory of these kernels.
constexpr int kStaticBytes = 3584;

/// Bytes of shared memory that merge_warps() takes of the stages of each warp.
constexpr int merge_bytes(int dim, int tiles) {
  return 8 * tiles * dim * 4;
}

/// Combines the results of the first n_warps of a block, which are those that have any. SplitSums says what
/// `to` gets. centred: values are centred. shared: the stages of warps, which others may still be reading.
/// kCentreSlabs: how many of the slabs, the last ones, have no excess.
template <int kSlabs, int kTiles, int kCentreSlabs = 0>
__device__ void merge_warps(State<kSlabs, kTiles>& state, int n_warps, bool centred, float* shared,
                            float* to) {
  constexpr int kHeads = 8 * kTiles, kRows = 16 * kSlabs, kQuads = kHeads / 4;            // float4 in a row
  __shared__ float2 maxima[16 * kHeads / 2], sums[16 * kHeads / 2], cs[16 * kHeads / 2];  // (W, heads / 2)
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4;
  float* const outputs = shared;  // (W, rows, heads)
  if (r == 0)
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
      maxima[warp * kHeads / 2 + 4 * tile + c] = {state.m[tile][0], state.m[tile][1]};
  __syncthreads();
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    if (warp >= n_warps) break;  // this warp has no result
    float2 most = maxima[4 * tile + c];
#pragma unroll 4
    for (int w = 1; w < n_warps; ++w) {
      const float2 x = maxima[w * kHeads / 2 + 4 * tile + c];
      most = {fmaxf(most.x, x.x), fmaxf(most.y, x.y)};
    }
    const float factor[2] = {exp2_fast(state.m[tile][0] - most.x), exp2_fast(state.m[tile][1] - most.y)};
    const auto put_sums = [&](const float(&x)[2], float2* all) {
      float y[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        y[j] = x[j] * factor[j];
#pragma unroll
        for (int apart = 4; apart < 32; apart *= 2) y[j] += __shfl_xor_sync(kAll, y[j], apart);
      }
      if (r == 0) all[warp * kHeads / 2 + 4 * tile + c] = {y[0], y[1]};
    };
    put_sums(state.l[tile], sums);
    if (centred) put_sums(state.c[tile], cs);
    if (warp == 0 && r == 0)
#pragma unroll
      for (int j = 0; j < 2; ++j) to[kHeads * kRows + 4 * (8 * tile + 2 * c + j)] = j ? most.y : most.x;
    const float less[2] = {-state.excess[tile][0] * factor[0], -state.excess[tile][1] * factor[1]};
    float* const mine = outputs + (warp * kRows + r) * kHeads + 8 * tile + 2 * c;
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        *reinterpret_cast<float2*>(mine + (16 * slab + 8 * half) * kHeads) = {
            fmaf(state.o[slab][tile][2 * half], factor[0], slab < kSlabs - kCentreSlabs ? less[0] : 0.0f),
            fmaf(state.o[slab][tile][2 * half + 1], factor[1],
                 slab < kSlabs - kCentreSlabs ? less[1] : 0.0f)};
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kRows * kQuads; i += blockDim.x) {
    float4 sum{};
#pragma unroll 4
    for (int w = 0; w < n_warps; ++w) {
      const float4 x = reinterpret_cast<const float4*>(outputs + w * kRows * kHeads)[i];
      sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
    }
    float* const column = to + i % kQuads * 4 * kRows + i / kQuads;
    column[0] = sum.x, column[kRows] = sum.y, column[2 * kRows] = sum.z, column[3 * kRows] = sum.w;
  }
  if (threadIdx.x < kHeads) {
    const auto sum_of = [&](const float2* all) {
      float sum = 0;
      for (int w = 0; w < n_warps; ++w) sum += reinterpret_cast<const float*>(all)[w * kHeads + threadIdx.x];
      return sum;
    };
    float* const of_head = to + kHeads * kRows + 4 * threadIdx.x;
    of_head[1] = sum_of(sums);
    if (centred) of_head[2] = sum_of(cs);
  }
}

}  // namespace blockgtq::cuda
