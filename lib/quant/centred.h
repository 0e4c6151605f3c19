#pragma once
#include <span>

#include "quant/codebook.h"
#include "quant/head_map.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// Ekc_i = E|k^(i) - mu^(i)|^2, the energy of every block after centring, (B).
std::vector<double> centred_energy(const BlockLayout& layout, const HeadCalibration& calibration);
/// Balance: a_i = (Eq_i / Ekc_i)^(1/4) of every block, (B). It gives a_i (k - mu) and q / a_i the same
/// energy.
std::vector<double> balance_scales(const BlockLayout& layout, const HeadCalibration& calibration);
/// The product score Eq_i Ekc_i of every block, (B): the logit error is query energy times key error.
std::vector<double> product_score(const BlockLayout& layout, const HeadCalibration& calibration);

/// Code of centred keys y = a_i (k - mu). With Balance::blocks a_i is balance_scales(), which commutes with
/// RoPE; with Balance::none it is 1. bits (B): blocks of one width form a group, rotated with seed `seed +
/// bits`. There is a norm per group; with one_norm every group is divided by its calibrated RMS instead, and
/// the key has one norm.
enum class Balance { none, blocks };
LinearCode centred_blocks(const HeadMap& head, std::span<const uint8_t> bits, bool one_norm,
                          Codebook codebook, Balance balance = Balance::blocks);
/// Balanced and centred keys with one width for all coordinates, rotation seed `seed`.
LinearCode centred_uniform(const HeadMap& head, int bits, Codebook codebook);

}  // namespace blockgtq
