#pragma once
#include "quant/head_map.h"
#include "quant/stats.h"

namespace blockgtq {

/// Means, energies, (where the statistics know W_o) the value basis and (where they hold a sample) n_centres
/// centres of keys and of values, for one KV head.
HeadCalibration calibrate_head(const Stats& stats, int layer, int kv_head, int n_centres);

}  // namespace blockgtq
