#pragma once

namespace blockgtq::cuda {

inline constexpr unsigned kWholeWarp = 0xffffffffu;

/// The sum, or the maximum, over the 32 lanes of a warp, always in the same order.
/// Every lane gets the result.
template <class T>
__device__ T warp_sum(T x) {
  for (int apart = 16; apart > 0; apart /= 2) x += __shfl_xor_sync(kWholeWarp, x, apart);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int apart = 16; apart > 0; apart /= 2) x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, apart));
  return x;
}

/// The smallest value of all lanes, and of equal values the one with the smallest
/// index. Every lane gets both.
template <class T>
__device__ void warp_least(T& value, int& index) {
  for (int apart = 16; apart > 0; apart /= 2) {
    const T other = __shfl_xor_sync(kWholeWarp, value, apart);
    const int at = __shfl_xor_sync(kWholeWarp, index, apart);
    if (other < value || (other == value && at < index)) value = other, index = at;
  }
}

}  // namespace blockgtq::cuda
