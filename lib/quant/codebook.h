#pragma once
#include <vector>

namespace blockgtq {

inline constexpr int kMaxBits = 8;

/// The published codebook for N(0, 1), 2^bits ascending centroids; divide by sqrt(d) for a coordinate of a
/// unit vector in d dimensions. 1 bit: +-sqrt(2/pi); 2 bits: +-0.453, +-1.51 (rounded there); 3..8 bits: 100
/// Lloyd iterations from the quantile boundaries. bits in 1..8.
const std::vector<double>& normal_codebook(int bits);

}  // namespace blockgtq
