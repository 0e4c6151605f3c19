#pragma once
#include <span>
#include <vector>

#include "quant/codebook.h"
#include "quant/head_map.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// The weighted Karhunen-Loeve basis of values (METHOD.md, section 7). weight (Dv, Dv) = sum over the group's
/// query heads of W_o,g^T W_o,g, S its square root; covariance (Dv, Dv) of v; S cov S = U diag(energy) U^T.
struct KltBasis {
  std::vector<double> energy;    // (Dv) descending
  std::vector<double> forward;   // (Dv, Dv) U^T S; the largest entry of every column of U is positive
  std::vector<double> backward;  // (Dv, Dv) S^-1 U
};
KltBasis klt_basis(const std::vector<double>& weight, const std::vector<double>& covariance);

/// Bits of pairs of neighbouring coordinates (Dv / 2), 0..8: floor(n_pairs * average_bits) in all, each to
/// the pair that gains most, energy (D(b) - D(b + 1)) with D the codebook's distortion.
std::vector<uint8_t> allocate_by_gain(std::span<const double> pair_energy, double average_bits);

/// Values in the basis of the map, groups by bit width, one norm per value; pairs of 0 bits are not stored.
LinearCode klt_code(const HeadMap& head, Codebook codebook);

}  // namespace blockgtq
