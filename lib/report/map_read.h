#pragma once
#include <string>
#include <vector>

#include "quant/bit_map.h"

namespace blockgtq {

/// The bits (L, H, B) of a file of map_export.h, read by its format's own rules: what a reader without this
/// code would do. Exit::input with `file` for anything that does not hold bits of just this map's shape.
std::vector<uint8_t> read_map_json(const std::string& bytes, const BitMap& map, const std::string& file);
std::vector<uint8_t> read_map_csv(const std::string& bytes, const BitMap& map, const std::string& file);
std::vector<uint8_t> read_map_npy(const std::string& bytes, const BitMap& map, const std::string& file);
std::vector<uint8_t> read_map_safetensors(const std::string& bytes, const BitMap& map,
                                          const std::string& file);

}  // namespace blockgtq
