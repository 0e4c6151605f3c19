#pragma once
#include "kernels/device/reduce.cuh"
#include "kernels/forward/candidate.h"

namespace blockgtq::cuda {

/// A candidate that is worse than any other.
__device__ inline Candidate no_candidate() {
  return {-INFINITY, INT32_MAX};
}

/// The better of two candidates: one that reports a non-finite result first, then the larger value, then
/// the lower row.
__device__ inline Candidate better(const Candidate& a, const Candidate& b) {
  if (a.row < 0 || b.row < 0) return a.row < b.row ? a : b;
  if (a.value != b.value) return a.value > b.value ? a : b;
  return a.row < b.row ? a : b;
}

/// The best candidate of kLanes neighbouring lanes of a warp. Each of them gets it.
template <int kLanes>
__device__ inline Candidate best_of_lanes(Candidate best) {
#pragma unroll
  for (int apart = kLanes / 2; apart > 0; apart /= 2)
    best = better(
        best, {__shfl_xor_sync(kWholeWarp, best.value, apart), __shfl_xor_sync(kWholeWarp, best.row, apart)});
  return best;
}

}  // namespace blockgtq::cuda
