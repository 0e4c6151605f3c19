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

/// What round_trip() found, in device memory; the caller zeroes it.
struct RoundTripCounts {
  unsigned long long clipped = 0;  // fp16 norms that were cut to 65504
  unsigned long long bad = 0;  // number of jobs minus the first whose vectors have an infinite norm; 0: none
};

/// Jobs in device memory.
struct RoundTrips {
  const RoundTripJob* jobs = nullptr;
  int n_jobs = 0;
  int64_t longest = 0;   // of the jobs' n
  int dim = 0;           // D of all of them
  bool trellis = false;  // whether one of them has trellis codes
  RoundTripCounts* counts = nullptr;
};

/// Puts in the place of every vector what its code gives back, as LinearQuantizer's encode and decode do: the
/// same sums in the same order, so that codes differ at most where two are equally near.
void round_trip(const RoundTrips& trips, const Stream& stream);

}  // namespace blockgtq::cuda
