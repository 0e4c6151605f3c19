#pragma once
#include "base/file.h"
#include "quant/stats.h"

namespace blockgtq {

/// STATS.h5, schema "blockgtq.stats": every sum of Stats as float64, which is read back with the same bits.
/// Files of version 1 do not say how many chunks the whole run has. Exit::output and Exit::input as H5Output
/// and H5Input.
void write_stats(const fs::path& path, const Stats& stats);  // path: an OutputFile's temporary name
Stats read_stats(const fs::path& path);

}  // namespace blockgtq
