#pragma once
#include "kernels/device/check.cuh"

namespace blockgtq::cuda {

/// sums[row] = the sum of partial[row][0 .. n), by one warp per row. A lane adds its elements first, then the
/// lanes are added. The order is always the same.
static __global__ void sum_tiles_kernel(const double* partial, int64_t n, double* sums) {
  const double* row = partial + blockIdx.x * n;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += 32) sum += row[i];
  for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/// partial (rows, n) -> sums (rows)
inline void sum_tiles(const double* partial, int rows, int64_t n, double* sums, const Stream& stream) {
  sum_tiles_kernel<<<unsigned(rows), 32, 0, raw(stream)>>>(partial, n, sums);
  check_launch("sum_tiles");
}

}  // namespace blockgtq::cuda
