#pragma once
#include <cstdint>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// A device word that is zero while everything it was shown is finite; else kNonfiniteBase minus the lowest
/// index of a NaN or infinity.
inline constexpr uint64_t kNonfiniteBase = UINT64_MAX;

/// Shows x (n) to the word, which the caller has zeroed. An integer maximum: the order does not matter.
void find_nonfinite(const float* x, int64_t n, uint64_t* word, const Stream& stream);

/// The index a downloaded word stands for; -1 where all was finite.
inline int64_t first_nonfinite(uint64_t word) {
  return word == 0 ? -1 : int64_t(kNonfiniteBase - word);
}

}  // namespace blockgtq::cuda
