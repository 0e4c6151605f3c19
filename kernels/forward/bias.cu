// y(t, i) += scale bias(i) for t < n, i < cols. Rows of y lie y_stride floats apart. Bytes moved: 8 n cols.
#include "kernels/device/check.cuh"
#include "kernels/forward/bias.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256;

/// One block per row.
__global__ void add_bias_kernel(float* y, int64_t y_stride, int64_t cols, const float* bias, float scale) {
  float* row = y + int64_t(blockIdx.x) * y_stride;
  for (int64_t i = threadIdx.x; i < cols; i += kThreads) row[i] += scale * bias[i];
}

}  // namespace

void add_bias(float* y, int64_t y_stride, int64_t n, int64_t cols, const float* bias, float scale,
              const Stream& stream) {
  check(n >= 0 && n <= INT32_MAX && cols > 0 && y_stride >= cols && y && bias, "add_bias: arguments");
  if (n == 0) return;
  add_bias_kernel<<<unsigned(n), kThreads, 0, raw(stream)>>>(y, y_stride, cols, bias, scale);
  check_launch("add_bias");
}

}  // namespace blockgtq::cuda
