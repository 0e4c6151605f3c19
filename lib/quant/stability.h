#pragma once
#include <vector>

#include "quant/share.h"

namespace blockgtq {

/// How much the bits depend on the calibration text.
struct Stability {
  /// (L) share of blocks whose bits differ between the first and the second half of the chunks. Empty with a
  /// single chunk.
  std::vector<double> changed;
  /// (L, H, B) share of resamples in which a block has the bits of the whole text. A resample draws the
  /// chunks with replacement. Empty without resamples.
  std::vector<double> same;
};

/// Measured at one budget, in bytes per token and head. Deterministic for a seed. Exit::usage as
/// allocate_heads().
Stability measure_stability(const Stats& stats, KeyForm form, const ShareSpec& spec, double bytes,
                            int n_resamples, uint64_t seed);

}  // namespace blockgtq
