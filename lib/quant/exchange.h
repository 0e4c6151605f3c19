#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "quant/distortion.h"

namespace blockgtq {

/// The mean squared logit error of a head whose groups spread their error evenly:
///   sum over groups of D(b, |group|) / 2 * (sum Eq_i) (sum Ek_i) / |group|.
/// q, k, bits (B).
double mixing_error(std::span<const double> q, std::span<const double> k, const Distortion& distortion,
                    std::span<const uint8_t> bits);

/// Exchanges pairs of blocks between groups while that lowers mixing_error(); sizes and widths of groups
/// stay, hence the cost. Returns the error reached. First gain in ascending index, until a sweep finds none.
double exchange_blocks(std::span<const double> q, std::span<const double> k, const Distortion& distortion,
                       std::vector<uint8_t>& bits);

}  // namespace blockgtq
