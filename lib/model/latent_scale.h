#pragma once
#include <cmath>

#include "hf/config.h"

namespace blockgtq {

/// Epsilon of the norms inside latent attention, whatever the config says of other norms.
inline constexpr double kLatentEps = 1e-6;

/// The factor of latent attention's scores: 1 / sqrt(key dimension), times the square of yarn's mscale for
/// all dimensions where the config has one. Source: transformers, modeling_deepseek_v2.py, yarn_apply_mscale.
inline float latent_scale(const Config& c) {
  const double scale = 1 / std::sqrt(double(c.mla.nope_dim + c.mla.rope_dim));
  const double all_dim = c.rope.mscale_all_dim.value_or(0);
  if (c.rope.type == RopeType::standard || all_dim == 0 || c.rope.factor <= 1) return float(scale);
  const double mscale = 0.1 * all_dim * std::log(c.rope.factor) + 1;
  return float(scale * mscale * mscale);
}

}  // namespace blockgtq
