#pragma once
#include <span>

#include "quant/codebook.h"
#include "quant/head_map.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// Ekc: E|k^(i) - mu^(i)|^2 of every block (B).
std::vector<double> centred_energy(const BlockLayout& layout, const HeadCalibration& calibration);
/// Balance: a_i = (Eq_i / Ekc_i)^(1/4) of every block (B), so that a_i (k - mu) and q / a_i have one energy.
std::vector<double> balance_scales(const BlockLayout& layout, const HeadCalibration& calibration);
/// Logit error is query energy times key error: Eq Ekc (B).
std::vector<double> product_score(const BlockLayout& layout, const HeadCalibration& calibration);

/// Centred, balanced keys: y = a_i (k - mu) with a_i = (Eq_i / Ekc_i)^(1/4) per block,
/// which commutes with RoPE, or a_i = 1. Blocks of one bit width make a group, rotated with seed `seed +
/// bits`; one norm per group, or one per key of groups divided by their RMS.
enum class Balance { none, blocks };
LinearCode centred_blocks(const HeadMap& head, std::span<const uint8_t> bits, bool one_norm,
                          Codebook codebook, Balance balance = Balance::blocks);
/// The same with one width for all coordinates, rotation seed `seed`.
LinearCode centred_uniform(const HeadMap& head, int bits, Codebook codebook);

}  // namespace blockgtq
