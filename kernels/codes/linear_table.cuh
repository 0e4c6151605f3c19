#pragma once
#include "kernels/codes/linear_table.h"

namespace blockgtq::cuda {

/// Coordinates [first, first + d) of z that share a codebook.
struct LinearGroup {
  int first, d, bits;
  float weight;             // of a trellis: TrellisRun::weight
  const float* centroids;   // (2^bits); of a trellis (kTrellisStates)
  const float* boundaries;  // (2^bits - 1); of a trellis: none
};
/// Coordinates [first, first + d) of z that share a norm.
struct LinearSpan {
  int first, d;
};

struct LinearTable {
  int dim, n, n_groups, n_spans, n_centres;
  int n_trellis, n_stream;             // trellis groups, which come first, and their coordinates: one stream
  int z_pitch, x_pitch, centre_pitch;  // n, D, M padded to multiples of 32; columns beyond are zero
  const LinearGroup* groups;
  const LinearSpan* spans;
  const float* forward;                  // (D padded to a multiple of 4, z_pitch), transposed
  const float* backward;                 // (n padded to a multiple of 4, x_pitch), transposed
  const float *mean, *weight, *centres;  // (D), (D), (M, D); null means 0, 1, none
  const float *z_centres, *z_columns;    // (M, n), and transposed (n padded to a multiple of 4, centre_pitch)
  const double* squares;                 // (M) |z_centre|^2
  const LinearTable* fallback;           // null: none
};

}  // namespace blockgtq::cuda
