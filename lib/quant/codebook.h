#pragma once
#include <string>
#include <vector>

namespace blockgtq {

inline constexpr int kMaxBits = 8;

/// Which centroids: the published ones, or the converged optimum for the group's dimension.
enum class Codebook { by_method, reference, exact };
Codebook parse_codebook(const std::string& name);  // "" (by_method), "reference", "exact"
const char* name(Codebook codebook);               // "by method", ...

/// What the bits of a group mean: every coordinate has the index of its own centroid, or the stream is a path
/// through a trellis (quant/trellis.h).
enum class Code { scalar, trellis };
Code parse_code(const std::string& name);  // "scalar", "trellis"
const char* name(Code code);

/// The published codebook for N(0, 1): 2^bits ascending centroids, bits in 1..8. Divide by sqrt(d) for a
/// coordinate of a unit vector in d dimensions. 1 bit: +-sqrt(2/pi). 2 bits: +-0.453, +-1.51, rounded as
/// published. 3 to 8 bits: 100 Lloyd iterations from the quantile boundaries.
const std::vector<double>& normal_codebook(int bits);

/// The converged Lloyd-Max quantizer for one coordinate of a uniform unit vector in d dimensions, whose
/// density is proportional to (1 - x^2)^((d - 3) / 2): 2^bits ascending centroids. d >= 2, bits in 1..8.
/// Computed once per (d, bits) in a process.
const std::vector<double>& exact_codebook(int d, int bits);
/// Its expected squared error for a coordinate scaled to variance 1. At 0 bits it is 1.
double exact_distortion(int d, int bits);

/// 2^bits ascending centroids for a coordinate of a unit vector in d dimensions. Not for Codebook::by_method.
std::vector<double> unit_centroids(Codebook codebook, int d, int bits);

}  // namespace blockgtq
