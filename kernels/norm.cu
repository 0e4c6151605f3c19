// y_t = x_t / sqrt(sum_i x_ti^2 / dim + eps) * weight, t < n.
//
//   x   [t0: dim values][gap][t1: dim values]...   rows x_stride floats apart
//   y   likewise, y_stride apart, float32;   low   (n, dim) dense, rounded to low_type
//
// A row of up to 512 values (QK-norm) belongs to one warp, a longer one to a block of 256 threads. Its second
// reading comes from the cache. Bytes moved: n dim (4 + 4 for y + size of low_type).
#include "check.cuh"
#include "float_type.cuh"
#include "norm.h"
#include "reduce.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int64_t kWarpRow = 512;

struct Rows {
  const float* x;
  int64_t x_stride, n;
  int dim;
  const float* weight;
  float eps;
  float* y;
  int64_t y_stride;
};

/// The sum of x over the team of a row: a warp, or the block. The order is fixed.
template <bool kBlock>
__device__ float team_sum(float x) {
  x = warp_sum(x);
  if (!kBlock) return x;
  __shared__ float parts[kWarps];
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += parts[w];
  return sum;
}

template <bool kBlock, class Low>
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(Rows r, Low* low) {
  const int64_t t = kBlock ? int64_t(blockIdx.x) : int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (t >= r.n) return;  // whole warps: a block's row always exists
  const int first = kBlock ? threadIdx.x : threadIdx.x % 32, step = kBlock ? kThreads : 32;
  const float* x = r.x + t * r.x_stride;
  float squares = 0;
  for (int i = first; i < r.dim; i += step) squares += x[i] * x[i];
  const float scale = 1.0f / sqrtf(team_sum<kBlock>(squares) / float(r.dim) + r.eps);
  for (int i = first; i < r.dim; i += step) {
    const float y = x[i] * scale * r.weight[i];
    if (r.y) r.y[t * r.y_stride + i] = y;
    if (low) store(low + t * r.dim + i, y);
  }
}

}  // namespace

void rms_norm(const RmsNorm& norm, const Stream& stream) {
  check(norm.n >= 0 && norm.dim > 0 && norm.dim <= INT32_MAX && norm.x_stride >= norm.dim, "rms_norm: shape");
  check(norm.x && norm.weight && (norm.y || norm.low), "rms_norm: arrays");
  check(!norm.y || norm.y_stride >= norm.dim, "rms_norm: rows of y overlap");
  if (norm.n == 0) return;
  const bool whole_block = norm.dim > kWarpRow;
  const int64_t blocks = whole_block ? norm.n : (norm.n + kWarps - 1) / kWarps;
  check(blocks <= INT32_MAX, "rms_norm: too many rows");
  const Rows rows{norm.x, norm.x_stride, norm.n, int(norm.dim), norm.weight, norm.eps, norm.y, norm.y_stride};
  with_type(norm.low_type, [&](auto* low_type) {
    auto* low = static_cast<decltype(low_type)>(norm.low);
    if (whole_block)
      rms_norm_kernel<true><<<unsigned(blocks), kThreads, 0, raw(stream)>>>(rows, low);
    else
      rms_norm_kernel<false><<<unsigned(blocks), kThreads, 0, raw(stream)>>>(rows, low);
  });
  check_launch("rms_norm");
}

}  // namespace blockgtq::cuda
