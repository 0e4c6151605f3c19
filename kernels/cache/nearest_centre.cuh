// The nearest centre of values, by one warp: the rule of lib/cache/centre_rule.h with the same roundings.
#pragma once
#include "kernels/cache/packed_table.h"
#include "kernels/device/ptx.cuh"
#include "kernels/device/reduce.cuh"

namespace blockgtq::cuda {

struct NearestCentre {
  int number;
  bool keeps;  // the value is nearer to zero, and nothing is subtracted
};

/// |m|^2 / 2 - m . x of a head's centre i, in the rule's order. x (D), in shared memory.
template <int kDim, int kRows>
__device__ inline void centre_costs(const ValueCentres& centres, int head, int i, const float* x,
                                    float (&cost)[kRows]) {
  const float* const column = centres.columns + int64_t(head) * kDim * centres.n + i;
  const float limit = __ldg(centres.limits + head * centres.n + i);
#pragma unroll
  for (int r = 0; r < kRows; ++r) cost[r] = limit;
#pragma unroll 2
  for (int d = 0; d < kDim; d += 4) {
    float4 y[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) y[r] = *reinterpret_cast<const float4*>(x + r * kDim + d);
    float m[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) m[k] = -__ldg(column + (d + k) * centres.n);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      cost[r] = fmaf(m[3], y[r].w, fmaf(m[2], y[r].z, fmaf(m[1], y[r].y, fmaf(m[0], y[r].x, cost[r]))));
  }
}

/// Those of kRows vectors x (kRows, D), in shared memory.
template <int kDim, int kRows>
__device__ inline void nearest_centres(const ValueCentres& centres, int head, const float* x,
                                       NearestCentre (&nearest)[kRows]) {
  float least[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) least[r] = INFINITY, nearest[r].number = 0;
#pragma unroll 1
  for (int i = threadIdx.x % 32; i < centres.n; i += 32) {
    float cost[kRows];
    centre_costs<kDim>(centres, head, i, x, cost);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (cost[r] < least[r]) least[r] = cost[r], nearest[r].number = i;
  }
  __syncwarp();
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    warp_least(least[r], nearest[r].number);
    nearest[r].keeps = least[r] > 0;
  }
}

}  // namespace blockgtq::cuda
