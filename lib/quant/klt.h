#pragma once
#include <span>
#include <vector>

#include "quant/codebook.h"
#include "quant/head_map.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// The weighted Karhunen-Loeve basis of vectors x whose error e counts as e^T weight e: S = weight^(1/2), S
/// cov S = U diag(energy) U^T, z = U^T S (x - mean). weight, covariance (D, D). For values the weight is the
/// sum over the group's query heads of W_o,g^T W_o,g; for keys before RoPE, the query energy of every block.
struct KltBasis {
  std::vector<double> energy;    // (D) descending
  std::vector<double> forward;   // (D, D) U^T S; the largest entry of every column of U is positive
  std::vector<double> backward;  // (D, D) S^-1 U
};
/// Not a number throughout where a product of the two is not finite.
KltBasis klt_basis(const std::vector<double>& weight, const std::vector<double>& covariance);

/// Bits of pairs of neighbouring coordinates (D / 2), 0..8: floor(n_pairs * average_bits) in all, each to
/// the pair that gains most, energy (D(b) - D(b + 1)) with D the codebook's distortion.
std::vector<uint8_t> allocate_by_gain(std::span<const double> pair_energy, double average_bits);
/// The same where every width but 0 that occurs takes per_group beside its bits, of block_bits in all: the
/// optimum for pairs in descending energy.
std::vector<uint8_t> allocate_by_groups(std::span<const double> pair_energy, int64_t block_bits,
                                        int per_group);

/// Keys before RoPE, or values, in the basis of the map: groups by bit width; pairs of 0 bits are not stored.
/// Values have one norm, keys one per group: the groups of a key far from the mean have lengths of their own,
/// and one norm of all of them leaves an error that more bits do not lower.
LinearCode klt_keys(const HeadMap& head, Codebook codebook);
LinearCode klt_values(const HeadMap& head, Codebook codebook);

}  // namespace blockgtq
