#pragma once
#include <string>
#include <vector>

namespace blockgtq {

inline constexpr int kMaxBits = 8;

/// Which centroids: the published ones, or the converged optimum of the group's dimension.
enum class Codebook { by_method, reference, exact };
Codebook parse_codebook(const std::string& name);  // "", "reference", "exact"
const char* name(Codebook codebook);               // "by method", ...

/// What the bits of a group mean: each coordinate's own centroid, or a path through a trellis
/// (quant/trellis.h).
enum class Code { scalar, trellis };
Code parse_code(const std::string& name);  // "scalar", "trellis"
const char* name(Code code);

/// The published codebook for N(0, 1), 2^bits ascending centroids; divide by sqrt(d) for a coordinate of a
/// unit vector in d dimensions. 1 bit: +-sqrt(2/pi); 2 bits: +-0.453, +-1.51 (rounded there); 3..8 bits: 100
/// Lloyd iterations from the quantile boundaries. bits in 1..8.
const std::vector<double>& normal_codebook(int bits);

/// The Lloyd-Max quantizer, converged, for one coordinate of a uniform unit vector in d dimensions, whose
/// density is proportional to (1 - x^2)^((d - 3) / 2): 2^bits ascending centroids. d >= 2, bits in 1..8;
/// computed once per (d, bits) in a process.
const std::vector<double>& exact_codebook(int d, int bits);
/// Its expected squared error, of a coordinate scaled to variance 1; 1 at 0 bits.
double exact_distortion(int d, int bits);

/// Centroids of a coordinate of a unit vector in d dimensions, not Codebook::by_method.
std::vector<double> unit_centroids(Codebook codebook, int d, int bits);

}  // namespace blockgtq
