#pragma once
#include <vector>

#include "quant/share.h"

namespace blockgtq {

/// How far the bits depend on the calibration text.
struct Stability {
  /// (L) share of blocks whose bits differ between the first and the second half of the chunks; empty with
  /// one chunk only.
  std::vector<double> changed;
  /// (L, H, B) share of resamples of the chunks, drawn with replacement, that give a block the bits of the
  /// whole text; empty without resamples.
  std::vector<double> same;
};

/// At one budget, in bytes per token and head. Deterministic for a seed.
Stability measure_stability(const Stats& stats, KeyForm form, const ShareSpec& spec, double bytes,
                            int n_resamples, uint64_t seed);

}  // namespace blockgtq
