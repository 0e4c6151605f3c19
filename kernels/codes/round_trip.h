#pragma once
#include <cstdint>

#include "kernels/codes/linear_table.h"

namespace blockgtq::cuda {

/// n vectors (D), `stride` floats apart, and the code that they go through.
struct RoundTripJob {
  const LinearTable* table = nullptr;
  float* x = nullptr;
  int64_t stride = 0, n = 0;
};

/// What round_trip() found, in device memory. The caller zeroes it.
struct RoundTripCounts {
  unsigned long long clipped = 0;  // fp16 norms that were cut to 65504
  // The number of jobs minus the index of the first with a norm that is not finite; 0: there is none.
  unsigned long long bad = 0;
};

/// A batch of jobs in device memory.
struct RoundTrips {
  const RoundTripJob* jobs = nullptr;
  int n_jobs = 0;
  int64_t longest = 0;   // the largest n of the jobs
  int dim = 0;           // D of all jobs
  bool trellis = false;  // whether any job has trellis codes
  RoundTripCounts* counts = nullptr;
};

/// Replaces every vector by what its code gives back, as LinearQuantizer's encode and decode do. The sums are
/// the same and in the same order, so that codes differ at most where two centroids are equally near.
void round_trip(const RoundTrips& trips, const Stream& stream);

}  // namespace blockgtq::cuda
