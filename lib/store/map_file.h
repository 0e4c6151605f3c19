#pragma once
#include "base/file.h"
#include "quant/bit_map.h"

namespace blockgtq {

/// MAP.h5, schema "blockgtq.map": bits and energies in block order, RoPE layout and frequencies, module
/// names, and the quantizer's identity (rotation, seed, codebook, norm grouping, pack order). Exit::output
/// and Exit::input as H5Output and H5Input.
void write_map(const fs::path& path, const BitMap& map);  // path: an OutputFile's temporary name
BitMap read_map(const fs::path& path);

}  // namespace blockgtq
