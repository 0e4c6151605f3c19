// y_t = (x_t - mean_t) / sqrt(sum_i (x_ti - mean_t)^2 / dim + eps) * (weight + offset) + bias for t < n, with
// mean_t = 0 unless `centered`.
//
//   x     rows of dim values, x_stride floats apart
//   y     rows of dim values, y_stride floats apart, set or added to
//   low   (n, dim) dense, rounded to low_type
//
// A row of up to 512 values (QK-norm) belongs to one warp, a longer one to a block of 256 threads. The later
// passes over a row read it from the cache. Bytes moved: n dim (4 + 4 for y + size of low_type).
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/forward/norm.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int64_t kWarpRow = 512;

/// The sum of x over the threads of a row: a warp, or the block by way of `parts`. The order is fixed.
template <bool kBlock>
__device__ float team_sum(float x, float (&parts)[kWarps]) {
  x = warp_sum(x);
  if (!kBlock) return x;
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += parts[w];
  return sum;
}

template <bool kBlock, class Low>
__global__ void __launch_bounds__(kThreads) norm_kernel(Norm r, Low* low) {
  __shared__ float sums[kWarps], squared[kWarps];
  let_successor_start();
  wait_for_predecessor();
  const int64_t t = kBlock ? int64_t(blockIdx.x) : int64_t(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (t >= r.n) return;  // whole warps end; a block's row always exists
  const int first = kBlock ? threadIdx.x : threadIdx.x % 32, step = kBlock ? kThreads : 32, dim = int(r.dim);
  const float* x = r.x + t * r.x_stride;
  float mean = 0, squares = 0;
  if (r.centered) {
    float sum = 0;
    for (int i = first; i < dim; i += step) sum += x[i];
    mean = team_sum<kBlock>(sum, sums) / float(dim);
  }
  for (int i = first; i < dim; i += step) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / sqrtf(team_sum<kBlock>(squares, squared) / float(dim) + r.eps);
  for (int i = first; i < dim; i += step) {
    float y = (x[i] - mean) * scale * (r.weight[i] + r.offset);
    if (r.bias) y += r.bias[i];
    if (low) store(low + t * dim + i, y);
    if (!r.y) continue;
    float* to = r.y + t * r.y_stride + i;
    *to = r.add ? *to + r.scale * y : y;
  }
}

}  // namespace

void norm(const Norm& norm, const Stream& stream) {
  check(norm.n >= 0 && norm.dim > 0 && norm.dim <= INT32_MAX && norm.x_stride >= norm.dim, "norm: shape");
  check(norm.x && norm.weight && (norm.y || norm.low), "norm: arrays");
  check(!norm.y || norm.y_stride >= norm.dim, "norm: rows of y overlap");
  if (norm.n == 0) return;
  const bool whole_block = norm.dim > kWarpRow;
  const int64_t blocks = whole_block ? norm.n : (norm.n + kWarps - 1) / kWarps;
  check(blocks <= INT32_MAX, "norm: too many rows");
  with_type(norm.low_type, [&](auto* low_type) {
    auto* low = static_cast<decltype(low_type)>(norm.low);
    using Low = std::remove_pointer_t<decltype(low)>;
    launch_early(whole_block ? norm_kernel<true, Low> : norm_kernel<false, Low>, dim3(unsigned(blocks)),
                 kThreads, 0, stream, "norm", norm, low);
  });
}

}  // namespace blockgtq::cuda
