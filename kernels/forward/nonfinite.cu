// word = max over non-finite x[i] of (2^64 - 1 - i), unchanged where all x are finite. Bytes moved: 4 n.
#include <algorithm>

#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/forward/nonfinite.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 2048;

__device__ bool nonfinite(float x) {
  return (__float_as_uint(x) & 0x7f800000u) == 0x7f800000u;
}

__device__ void note(int64_t i, uint64_t* word) {
  atomicMax(reinterpret_cast<unsigned long long*>(word),
            static_cast<unsigned long long>(kNonfiniteBase - uint64_t(i)));
}

/// Checks the first n_packs * 4 elements in packs of four, the rest one by one.
__global__ void find_nonfinite_kernel(const float* x, int64_t n_packs, int64_t n, uint64_t* word) {
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x,
                step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = first; i < n_packs; i += step) {
    const Pack4<float> a = reinterpret_cast<const Pack4<float>*>(x)[i];
    for (int j = 0; j < 4; ++j)
      if (nonfinite(a.v[j])) note(4 * i + j, word);
  }
  for (int64_t i = 4 * n_packs + first; i < n; i += step)
    if (nonfinite(x[i])) note(i, word);
}

}  // namespace

void find_nonfinite(const float* x, int64_t n, uint64_t* word, const Stream& stream) {
  check(n >= 0 && word && (n == 0 || x), "find_nonfinite: arguments");
  if (n == 0) return;
  const int64_t n_packs = aligned(x, 16) ? n / 4 : 0, work = std::max(n_packs, n - 4 * n_packs);
  const int blocks = int(std::min(kMaxBlocks, (work + kThreads - 1) / kThreads));
  find_nonfinite_kernel<<<blocks, kThreads, 0, raw(stream)>>>(x, n_packs, n, word);
  check_launch("find_nonfinite");
}

}  // namespace blockgtq::cuda
