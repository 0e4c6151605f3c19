// out[i] = deviation sqrt(-2 ln u) cos(2 pi v), where u and v are the halves of splitmix64(seed, i). Bytes
// moved: the array once.
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/forward/random_fill.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void fill_kernel(T* out, int64_t n, float deviation, uint64_t seed) {
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < n; i += int64_t(gridDim.x) * kThreads) {
    uint64_t x = (seed << 40) + uint64_t(i) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    const float u = (float(uint32_t(x) >> 8) + 0.5f) * 0x1p-24f, v = float(x >> 40) * 0x1p-24f;
    store(out + i, deviation * sqrtf(-2 * logf(u)) * cospif(2 * v));
  }
}

}  // namespace

void fill_normal(void* out, FloatType type, int64_t n, float deviation, uint64_t seed, const Stream& stream) {
  constexpr int64_t kMaxBlocks = 1 << 16;
  check(out && n >= 0, "fill_normal: arguments");
  if (n == 0) return;
  const int64_t blocks = std::min((n + kThreads - 1) / kThreads, kMaxBlocks);
  with_type(type, [&](auto* kind) {
    using T = std::remove_pointer_t<decltype(kind)>;
    fill_kernel<<<unsigned(blocks), kThreads, 0, raw(stream)>>>(static_cast<T*>(out), n, deviation, seed);
  });
  check_launch("random numbers");
}

}  // namespace blockgtq::cuda
