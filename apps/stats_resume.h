#pragma once
#include "base/resume_file.h"
#include "model/backend.h"
#include "quant/stats.h"

namespace blockgtq {

/// Keeps the layers of stats that have sums, [0, n) of them, and where the run that makes them stands: in
/// front of decoder layer `layer`, with this residual stream; empty where that has no part in what follows.
void save_stats(ResumeFile& resume, const Stats& stats, int layer, std::span<const float> residual);

/// The stage ends with these statistics.
void end_stats(ResumeFile& resume, const Stats& stats);

/// What save_stats() kept, into stats, which has its shape, chunks and empty layers; nothing and layer 0
/// where it kept nothing.
LayerBoundary load_stats(ResumeFile& resume, Stats& stats, size_t residual_size);

/// Layers of stats that have sums.
int n_summed(const Stats& stats);

}  // namespace blockgtq
