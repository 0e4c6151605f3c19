// Angular frequencies of the kinds of RoPE, in float64. Source of the formulas: transformers,
// modeling_rope_utils.py, which computes them in float32.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "hf/config.h"

namespace blockgtq {

namespace {

/// theta^(-2i/R), (R/2)
std::vector<double> powers(double theta, int rotary_dim) {
  std::vector<double> out(size_t(rotary_dim / 2));
  for (size_t i = 0; i < out.size(); ++i) out[i] = std::pow(theta, -2.0 * double(i) / rotary_dim);
  return out;
}

/// The base grows with the length, once that exceeds the trained one (NTK-aware scaling).
std::vector<double> dynamic_frequencies(const RopeConfig& rope, int max_position, int64_t seq_len) {
  const double length = double(std::max<int64_t>(seq_len, max_position)) / max_position;
  const double exponent = double(rope.rotary_dim) / (rope.rotary_dim - 2);
  return powers(rope.theta * std::pow(rope.factor * length - (rope.factor - 1), exponent), rope.rotary_dim);
}

/// Long wavelengths are divided by the factor, short ones are kept, and those between are interpolated.
std::vector<double> llama3_frequencies(const RopeConfig& rope) {
  const double trained = rope.original_max_position;
  const double low = rope.low_freq_factor, high = rope.high_freq_factor;
  std::vector<double> out = powers(rope.theta, rope.rotary_dim);
  for (double& f : out) {
    const double wavelength = 2 * std::numbers::pi / f;
    if (wavelength < trained / high) continue;
    if (wavelength > trained / low) {
      f /= rope.factor;
      continue;
    }
    const double smooth = (trained / wavelength - low) / (high - low);
    f = (1 - smooth) * f / rope.factor + smooth * f;
  }
  return out;
}

/// Blocks that rotate more than beta_fast times over the trained length are kept. Those that rotate fewer
/// than beta_slow times are divided by the factor. Between them is a linear ramp over the block index.
std::vector<double> yarn_frequencies(const RopeConfig& rope) {
  const int dim = rope.rotary_dim;
  // The (fractional) index of the block that rotates so many times.
  const auto block_of = [&](double turns) {
    return dim * std::log(rope.original_max_position / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double first = block_of(rope.beta_fast), last = block_of(rope.beta_slow);
  if (rope.truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, double(dim - 1));
  if (first == last) last += 0.001;  // as in the source, against a division by zero
  std::vector<double> out = powers(rope.theta, dim);
  for (size_t i = 0; i < out.size(); ++i) {
    const double ramp = std::clamp((double(i) - first) / (last - first), 0.0, 1.0);
    out[i] = out[i] / rope.factor * ramp + out[i] * (1 - ramp);
  }
  return out;
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

double yarn_attention_factor(const RopeConfig& rope) {
  if (rope.attention_factor) return *rope.attention_factor;
  const double mscale = rope.mscale.value_or(0), all_dim = rope.mscale_all_dim.value_or(0);
  if (mscale == 0 || all_dim == 0) return yarn_mscale(rope.factor, 1);
  return yarn_mscale(rope.factor, mscale) / yarn_mscale(rope.factor, all_dim);
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeConfig& rope, int max_position, int64_t seq_len) {
  check(rope.rotary_dim > 0 && rope.rotary_dim % 2 == 0 && rope.theta > 0,
        "rope_frequencies: bad RopeConfig");
  RopeFrequencies out;
  switch (rope.type) {
    case RopeType::standard:
      out.inv_freq = powers(rope.theta, rope.rotary_dim);
      break;
    case RopeType::linear:
      out.inv_freq = powers(rope.theta, rope.rotary_dim);
      for (double& f : out.inv_freq) f /= rope.factor;
      break;
    case RopeType::dynamic:
      out.inv_freq = dynamic_frequencies(rope, max_position, seq_len);
      break;
    case RopeType::llama3:
      out.inv_freq = llama3_frequencies(rope);
      break;
    case RopeType::longrope: {
      const std::vector<double>& factors =
          seq_len > rope.original_max_position ? rope.long_factor : rope.short_factor;
      out.inv_freq = powers(rope.theta, rope.rotary_dim);
      for (size_t i = 0; i < out.inv_freq.size(); ++i) out.inv_freq[i] /= factors[i];
      out.attention_factor = rope.attention_factor.value_or(
          rope.factor <= 1 ? 1 : std::sqrt(1 + std::log(rope.factor) / std::log(rope.original_max_position)));
      break;
    }
    case RopeType::yarn:
      out.inv_freq = yarn_frequencies(rope);
      out.attention_factor = yarn_attention_factor(rope);
      break;
  }
  return out;
}

std::vector<double> unscaled_inv_freq(const RopeConfig& rope) {
  return powers(rope.theta, rope.rotary_dim);
}

}  // namespace blockgtq
