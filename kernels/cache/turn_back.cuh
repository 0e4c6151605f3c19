// Turns outputs in the order of packed values into those of a head, by one warp: products with
// columns of B_v.
#pragma once
#include "kernels/cache/unpack.cuh"
#include "kernels/device/ptx.cuh"

namespace blockgtq::cuda {

/// y += value times eight columns of a row, which are fp16.
__device__ inline void add_row(float (&y)[8], float value, uint4 row) {
  const uint32_t word[4] = {row.x, row.y, row.z, row.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float2 b = unpack2(word[j]);
    y[2 * j] = fmaf(value, b.x, y[2 * j]);
    y[2 * j + 1] = fmaf(value, b.y, y[2 * j + 1]);
  }
}

/// The sums over the warp of 8 numbers per lane. A lane gets that of number `index`, the same as
/// three other lanes.
struct LaneSum {
  float sum;
  int index;
};
__device__ inline LaneSum sum_over_lanes(float (&x)[8]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int apart = 16, n = 4; n > 0; apart /= 2, n /= 2)
#pragma unroll
    for (int j = 0; j < n; ++j) {  // half of the numbers go to the other lane, half stay
      const bool upper = lane & apart;
      const float given = upper ? x[j] : x[j + n];
      x[j] = (upper ? x[j + n] : x[j]) + __shfl_xor_sync(kAll, given, apart);
    }
  x[0] += __shfl_xor_sync(kAll, x[0], 2);
  x[0] += __shfl_xor_sync(kAll, x[0], 1);
  return {x[0], lane / 16 * 4 + lane / 8 % 2 * 2 + lane / 4 % 2};
}

}  // namespace blockgtq::cuda
