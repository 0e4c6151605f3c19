#pragma once
#include <span>
#include <vector>

#include "quant/codebook.h"
#include "quant/head_map.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// The weighted Karhunen-Loeve basis of vectors x whose error e costs e^T weight e. With S = weight^(1/2) and
/// S cov S = U diag(energy) U^T, z = U^T S (x - mean). weight and covariance are (D, D). For values the
/// weight is the sum over the group's query heads of W_o,g^T W_o,g. For keys before RoPE it is the query
/// energy of every block.
struct KltBasis {
  std::vector<double> energy;    // (D) descending
  std::vector<double> forward;   // (D, D) U^T S; the largest entry of every column of U is positive
  std::vector<double> backward;  // (D, D) S^-1 U
};
/// All entries are NaN where a product of the two is not finite.
KltBasis klt_basis(const std::vector<double>& weight, const std::vector<double>& covariance);

/// Allocates bits to pairs of neighbouring coordinates, (D / 2), each 0..8: floor(n_pairs * average_bits)
/// bits in all. Each goes to the pair with the largest gain energy (D(b) - D(b + 1)), where D is the
/// codebook's distortion.
std::vector<uint8_t> allocate_by_gain(std::span<const double> pair_energy, double average_bits);
/// The same for a budget of block_bits, of which every width but 0 that occurs takes per_group besides its
/// bits. It is the optimum for pairs in descending energy.
std::vector<uint8_t> allocate_by_groups(std::span<const double> pair_energy, int64_t block_bits,
                                        int per_group);

/// The code of keys before RoPE, or of values, in the basis of the map. Groups are by bit width; pairs of 0
/// bits are not stored. Values have one norm. Keys have one per group: in a key far from the mean the lengths
/// of the groups depart from the calibrated ones, and with a single norm that leaves an error that more bits
/// do not lower.
LinearCode klt_keys(const HeadMap& head, Codebook codebook);
LinearCode klt_values(const HeadMap& head, Codebook codebook);

}  // namespace blockgtq
