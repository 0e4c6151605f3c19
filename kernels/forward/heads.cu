// to(t, h, i) = from(t, h, i) for t < n, h < heads, i < width. Both sides have strides of their own for heads
// and tokens. Bytes moved: 8 n heads width.
#include "kernels/device/check.cuh"
#include "kernels/forward/heads.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 128;

/// One block per token, a thread per (head, coordinate).
__global__ void copy_heads_kernel(ConstHeads from, Heads to, int heads, int width) {
  const int64_t t = blockIdx.x;
  for (int i = threadIdx.x; i < heads * width; i += kThreads) {
    const int h = i / width, column = i % width;
    to.data[t * to.stride + h * to.head_stride + column] =
        from.data[t * from.stride + h * from.head_stride + column];
  }
}

}  // namespace

void copy_heads(const ConstHeads& from, const Heads& to, int64_t n, int64_t heads, int64_t width,
                const Stream& stream) {
  check(n >= 0 && n <= INT32_MAX && heads > 0 && width > 0 && heads * width <= INT32_MAX,
        "copy_heads: shape");
  check(from.data && to.data, "copy_heads: arrays");
  check(heads == 1 || to.head_stride >= width, "copy_heads: heads overlap");
  if (n == 0) return;
  copy_heads_kernel<<<unsigned(n), kThreads, 0, raw(stream)>>>(from, to, int(heads), int(width));
  check_launch("copy_heads");
}

}  // namespace blockgtq::cuda
