#pragma once
#include "quant/head_map.h"
#include "quant/stats.h"

namespace blockgtq {

/// Means, energies and (where the statistics know W_o) the value basis of one KV head.
HeadCalibration calibrate_head(const Stats& stats, int layer, int kv_head);

}  // namespace blockgtq
