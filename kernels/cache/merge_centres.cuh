// The part of values' centres in the merge: their sums of weights, over all splits, times the matrix of
// centres. Part of merge.cu.
#pragma once
#include <cuda_fp16.h>

#include "kernels/cache/merge.h"
#include "kernels/cache/turn_back.cuh"

namespace blockgtq::cuda {

/// A thread has every (D / 4)-th four rows, of every kGroups-th split; kInFlight splits are loaded at a time.
template <int kDim, int kRows, int kGroups, int kInFlight>
struct MergeCentres {
  static constexpr int kStep = kDim / 4, kQuads = kRows / 4, kEach = (kQuads + kStep - 1) / kStep;
  struct Shared {
    float4 parts[kGroups / 2][kQuads];
    float sums[kRows];
  };

  int quad, group;  // of the thread
  float4 sum[kEach] = {}, loaded[kInFlight][kEach];
  uint4 held[kRows / 32];  // eight columns of rows lane, lane + 32, ...

  /// Loads the matrix, which does not depend on the preceding kernel.
  __device__ MergeCentres(const MergeSplits& a, int kv_head)
      : quad(threadIdx.x % kStep), group(threadIdx.x / kStep) {
    const __half* const mine = static_cast<const __half*>(a.centres) +
                               (int64_t(kv_head) * kRows + threadIdx.x % 32) * kDim + threadIdx.x / 32 * 8;
#pragma unroll
    for (int i = 0; i < kRows / 32; ++i) held[i] = *reinterpret_cast<const uint4*>(mine + 32 * i * kDim);
  }
  __device__ bool has(int e) const {
    return quad + kStep * e < kQuads;
  }

  /// Loads this thread's rows of its splits from `first` on. rows: of split 0.
  __device__ void load(const float* rows, int stride, int first, int n) {
#pragma unroll
    for (int k = 0; k < kInFlight; ++k)
#pragma unroll
      for (int e = 0; e < kEach; ++e) {
        const int s = first + group + kGroups * k;
        loaded[k][e] = s < n && has(e)
                           ? *reinterpret_cast<const float4*>(rows + s * stride + 4 * (quad + kStep * e))
                           : float4{};
      }
  }
  /// x, once the rows are there.
  __device__ float behind(float x) const {
#pragma unroll
    for (int k = 0; k < kInFlight; ++k)
#pragma unroll
      for (int e = 0; e < kEach; ++e) x = fmaf(loaded[k][e].x, 0.0f, x);
    return x;
  }
  __device__ void scale(float factor) {
#pragma unroll
    for (float4& x : sum) x.x *= factor, x.y *= factor, x.z *= factor, x.w *= factor;
  }
  /// Adds the k-th split that was loaded.
  __device__ void add(int k, float factor) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const float4& x = loaded[k][e];
      float4& to = sum[e];
      to.x = fmaf(x.x, factor, to.x), to.y = fmaf(x.y, factor, to.y);
      to.z = fmaf(x.z, factor, to.z), to.w = fmaf(x.w, factor, to.w);
    }
  }
  /// Adds up the groups of threads two by two. All threads call it; a barrier follows.
  __device__ void pair_up(Shared& shared) {
    float4* const part = shared.parts[group % (kGroups / 2)];
#pragma unroll
    for (int e = 0; e < kEach; ++e)
      if (group >= kGroups / 2 && has(e)) part[quad + kStep * e] = sum[e];
    __syncthreads();
#pragma unroll
    for (int e = 0; e < kEach; ++e)
      if (group < kGroups / 2 && has(e)) {
        float4& to = part[quad + kStep * e];
        to.x += sum[e].x, to.y += sum[e].y, to.z += sum[e].z, to.w += sum[e].w;
      }
  }
  /// Adds up the pairs. A barrier follows.
  __device__ void finish(Shared& shared) {
    if (threadIdx.x >= kRows) return;
    float x = 0;
#pragma unroll
    for (int i = 0; i < kGroups / 2; ++i) x += reinterpret_cast<const float*>(shared.parts[i])[threadIdx.x];
    shared.sums[threadIdx.x] = x;
  }
  /// y += the sums times eight columns of the matrix, this lane's rows of it.
  __device__ void multiply(const Shared& shared, float (&y)[8]) const {
#pragma unroll
    for (int i = 0; i < kRows / 32; ++i) add_row(y, shared.sums[threadIdx.x % 32 + 32 * i], held[i]);
  }
};

/// Values without centres.
template <int kDim, int kGroups, int kInFlight>
struct MergeCentres<kDim, 0, kGroups, kInFlight> {
  struct Shared {};
  __device__ MergeCentres(const MergeSplits&, int) {}
  __device__ void load(const float*, int, int, int) {}
  __device__ float behind(float x) const { return x; }
  __device__ void scale(float) {}
  __device__ void add(int, float) {}
  __device__ void pair_up(Shared&) {}
  __device__ void finish(Shared&) {}
  __device__ void multiply(const Shared&, float (&)[8]) const {}
};

}  // namespace blockgtq::cuda
