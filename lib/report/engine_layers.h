#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "quant/bit_map.h"

namespace blockgtq {

/// The model's number of a layer: the one integer among the parts of its module's name. The map's layers are
/// those with attention over cached keys; engines count all. Exit::input for a name with none, or several.
int layer_number(const BitMap& map, int layer);
/// (L) layer_number of each.
std::vector<int> layer_numbers(const BitMap& map);

/// (L) sum of the energies of a layer's heads and blocks: what its predicted error is proportional to at one
/// width.
std::vector<double> layer_energies(const BitMap& map);
/// The n layers with the largest energies, ascending; of equal ones the first. n is cut to L.
std::vector<int> largest_layers(const BitMap& map, int n);

/// (L, H, B) of one width per layer.
std::vector<uint8_t> bits_of_layers(const BitMap& map, const std::vector<uint8_t>& widths);
/// The width of a layer, of bits that have one each.
std::vector<uint8_t> layer_widths(const BitMap& map, const std::vector<uint8_t>& bits);

/// A name that an engine knows and the bits it stands for.
struct NamedWidth {
  const char* name;
  int bits;
};
/// 0: no such name.
int width_of(const std::vector<NamedWidth>& all, const std::string& name);
/// BASE and PROTECTED of --engine-type, each one of `all`; what is not named is taken from the defaults.
/// Exit::usage for others.
std::pair<std::string, std::string> two_types(const std::string& text, const std::vector<NamedWidth>& all,
                                              const std::string& base, const std::string& protected_type);

}  // namespace blockgtq
