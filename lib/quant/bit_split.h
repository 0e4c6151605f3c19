#pragma once
#include <vector>

namespace blockgtq {

/// Average bits of keys and values; 0: exact.
struct BitPair {
  double k = 0, v = 0;
  bool operator==(const BitPair&) const = default;
};

/// Quarter-bit steps from 1 to a little more than `bits`, `bits` itself among them, ascending; only whole
/// ones where `whole`. Where bits are 0 nothing but 0.
std::vector<double> bit_steps(double bits, bool whole);

/// Sizes of a key and a value, and whether their methods take whole bits only.
struct SplitShape {
  int k_dim = 0, v_dim = 0;  // v_dim 0: no values per head, all goes to keys
  bool k_whole = false, v_whole = false;
};

/// Of `average` bits per coordinate of a key and its value together: the same for both, or where whole bits
/// do not allow it the closest that spend the most, keys before values.
BitPair even_split(double average, const SplitShape& shape);

/// One side's budget and what it costs per token.
struct PricedBits {
  double bits = 0, bytes = 0;
};

/// All that fits under a ceiling of bytes and could be best: for every budget of keys the most bits of
/// values, without those that have the same values and fewer bits of keys. Both lists ascend in bits.
std::vector<BitPair> splits_under(double ceiling, const std::vector<PricedBits>& keys,
                                  const std::vector<PricedBits>& values);

}  // namespace blockgtq
