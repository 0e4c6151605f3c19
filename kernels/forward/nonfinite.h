#pragma once
#include <cstdint>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// A word in device memory that is zero while all numbers that it was shown are finite. Otherwise it is
/// kNonfiniteBase minus the lowest index of a NaN or infinity.
inline constexpr uint64_t kNonfiniteBase = UINT64_MAX;

/// Shows x (n) to the word, which the caller has zeroed. The word is an integer maximum, so that the order
/// does not matter.
void find_nonfinite(const float* x, int64_t n, uint64_t* word, const Stream& stream);

/// The index that a downloaded word stands for; -1 where all numbers were finite.
inline int64_t first_nonfinite(uint64_t word) {
  return word == 0 ? -1 : int64_t(kNonfiniteBase - word);
}

}  // namespace blockgtq::cuda
