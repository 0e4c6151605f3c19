#pragma once
#include "quant/head_map.h"
#include "quant/stats.h"

namespace blockgtq {

/// Calibrates one KV head: its means and energies, the bases of keys and values, and n_centres centres of
/// each. The basis of keys needs k k^T in the statistics, that of values W_o, the centres a sample; what is
/// missing stays empty.
HeadCalibration calibrate_head(const Stats& stats, int layer, int kv_head, int n_centres);

}  // namespace blockgtq
