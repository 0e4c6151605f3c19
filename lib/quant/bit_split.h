#pragma once
#include <string>
#include <vector>

namespace blockgtq {

/// Average bits per coordinate of keys and of values. 0 means exact.
struct BitPair {
  double k = 0, v = 0;
  bool operator==(const BitPair&) const = default;
};

/// "3" or "2.5": the shortest text of a budget.
std::string bits_text(double bits);

/// The candidates near `bits`: quarter-bit steps from 1 to bits + 1.25 (at most 8), and `bits` itself,
/// ascending. With `whole` only whole numbers remain. bits = 0 gives {0}.
std::vector<double> bit_steps(double bits, bool whole);

/// Sizes of a key and a value of one head, and whether their methods take whole bits only.
struct SplitShape {
  int k_dim = 0, v_dim = 0;  // v_dim 0: no values per head, so all bits go to keys
  bool k_whole = false, v_whole = false;
};

/// Splits `average` bits per coordinate, of a key and its value together. Both get the same where that is
/// possible. Where whole bits forbid it, the result spends the most bits, then is the most even, then gives
/// the odd bit to keys.
BitPair even_split(double average, const SplitShape& shape);

/// A budget of one side, and what it costs in bytes per token.
struct PricedBits {
  double bits = 0, bytes = 0;
};

/// The splits under a ceiling in bytes per token that can be best: for every budget of keys, the most bits of
/// values that fit. Of splits with the same values only the one with the most bits of keys remains. keys and
/// values ascend in bits.
std::vector<BitPair> splits_under(double ceiling, const std::vector<PricedBits>& keys,
                                  const std::vector<PricedBits>& values);

}  // namespace blockgtq
