// Products of a warp's few vectors with a matrix, in float32.
#pragma once

namespace blockgtq::cuda {

/// out (kRows, pitch) = in (kRows, pitch) times a matrix (depth padded to a multiple of 4, columns),
/// columns <= 32 kColumns. Every sum adds its terms in order, from the first on. Lane l has columns
/// l, l + 32, ...
template <int kRows, int kColumns>
__device__ void multiply_rows(const float* matrix, int depth, int columns, const float* in, float* out,
                              int pitch) {
  constexpr int kLanes = 32;
  const int lane = threadIdx.x % kLanes;
  float sum[kRows][kColumns] = {};
  const float* column = matrix + lane;
  for (int k = 0; k < depth; k += 4) {
    float4 left[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) left[r] = *reinterpret_cast<const float4*>(in + r * pitch + k);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (c * kLanes >= columns) break;
      const float m0 = __ldg(column + k * columns + c * kLanes),
                  m1 = __ldg(column + (k + 1) * columns + c * kLanes),
                  m2 = __ldg(column + (k + 2) * columns + c * kLanes),
                  m3 = __ldg(column + (k + 3) * columns + c * kLanes);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        sum[r][c] = fmaf(left[r].x, m0, sum[r][c]);
        sum[r][c] = fmaf(left[r].y, m1, sum[r][c]);
        sum[r][c] = fmaf(left[r].z, m2, sum[r][c]);
        sum[r][c] = fmaf(left[r].w, m3, sum[r][c]);
      }
    }
  }
#pragma unroll
  for (int c = 0; c < kColumns; ++c)
#pragma unroll
    for (int r = 0; r < kRows; ++r) out[r * pitch + c * kLanes + lane] = sum[r][c];
}

}  // namespace blockgtq::cuda
