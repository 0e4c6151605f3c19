#pragma once

namespace blockgtq::cuda {

inline constexpr unsigned kWholeWarp = 0xffffffffu;

/// Over the 32 lanes of a warp, always in the same order; every lane gets the result.
__device__ inline float warp_sum(float x) {
  for (int apart = 16; apart > 0; apart /= 2) x += __shfl_xor_sync(kWholeWarp, x, apart);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int apart = 16; apart > 0; apart /= 2) x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, apart));
  return x;
}

}  // namespace blockgtq::cuda
