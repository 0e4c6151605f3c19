#pragma once
#include <string>
#include <vector>

#include "quant/bit_map.h"

namespace blockgtq {

/// One array of bits of two maps at one budget.
struct BitDifference {
  /// What the two arrays of one KV head, or the sums over heads, differ in.
  struct Count {
    int64_t blocks = 0, fewer = 0, more = 0;  // of which B has fewer bits, more bits
    int64_t bits_a = 0, bits_b = 0;           // sums over blocks
    double error_a = 0, error_b = 0;          // sums of energy * 4^-bits, with A's energies
    void add(const Count& other);
    double changed() const { return double(fewer + more) / double(blocks); }
  };
  std::string array;         // "bits", "product_bits", "key_bits" or "value_bits"
  double average_bits = 0;   // the budget
  std::vector<Count> heads;  // (L, H)
  Count total() const;
  Count layer(int layer, int n_kv_heads) const;
};

/// Of every budget and every array that both maps hold. Exit::input where the maps are of other shapes, or
/// have no budget in common; `a` and `b` name them.
std::vector<BitDifference> map_differences(const BitMap& map_a, const BitMap& map_b, const std::string& a,
                                           const std::string& b);

}  // namespace blockgtq
