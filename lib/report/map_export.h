#pragma once
#include <string>

#include "quant/bit_map.h"

namespace blockgtq {

/// The forms of `export-bitmap`; each returns the file's bytes. Rows are (layer, KV head), columns blocks in
/// block order.
///   json         everything, schema blockgtq.bitmap/1
///   csv          layer,kv_head,block,inv_freq,coord0,coord1,bits,energy
///   npy          uint8 (L, H, B), format 1.0
///   safetensors  bits, energy, inv_freq, coords; metadata
///   png          heat map, at least 4 pixels a cell
///   svg          heat map with axes and legend
std::string map_json(const BitMap& map, const Budget& budget);
std::string map_csv(const BitMap& map, const Budget& budget);
std::string map_npy(const BitMap& map, const Budget& budget);
std::string map_safetensors(const BitMap& map, const Budget& budget);
std::string map_png(const BitMap& map, const Budget& budget);
std::string map_svg(const BitMap& map, const Budget& budget);

/// The heat map for a terminal, at most `width` columns (16 are always taken); with ANSI colours or digits
/// alone.
std::string map_terminal(const BitMap& map, const Budget& budget, int width, bool color);

}  // namespace blockgtq
