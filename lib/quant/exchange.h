#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "quant/distortion.h"

namespace blockgtq {

/// The mean squared logit error of a head whose groups spread their error evenly over their blocks:
///   sum over groups of D(b, |group|) / 2 * (sum Eq_i) (sum Ek_i) / |group|.
/// q (B) is Eq, k (B) is Ek, bits (B).
double mixing_error(std::span<const double> q, std::span<const double> k, const Distortion& distortion,
                    std::span<const uint8_t> bits);

/// Exchanges pairs of blocks between groups as long as that lowers mixing_error(). Sizes and widths of groups
/// stay, and so does the cost. A sweep goes through the pairs in ascending index and takes the first gain; it
/// ends with a sweep that finds none. Changes bits (B), returns the error reached.
double exchange_blocks(std::span<const double> q, std::span<const double> k, const Distortion& distortion,
                       std::vector<uint8_t>& bits);

}  // namespace blockgtq
