#pragma once
#include "quant/quantizer.h"

namespace blockgtq {

/// KIVI, which quantizes keys per channel: every coordinate has a uniform grid over 32 consecutive tokens,
/// with an fp16 scale and zero. A tile of up to 32 tokens is stored as scale and zero of every coordinate,
/// then the bit stream, token by token, padded to a byte. (The last, incomplete tile is quantized as well;
/// KIVI keeps it in fp16.)
///
/// Lagging: a token is quantized as soon as it comes, on the grid of the 32 tokens before its tile (in the
/// first tile, on that tile's own grid). So it does not wait for its tile to fill. What lies outside the grid
/// is clipped.
class Kivi final : public Quantizer {
 public:
  static constexpr size_t kTokens = 32;

  /// mean (D) is subtracted first; empty: zero. bits in 1..8.
  Kivi(int dim, int bits, std::vector<float> mean = {}, bool lagging = false);
  int dim() const override { return dim_; }
  size_t code_bytes(size_t n = 1) const override;
  void encode(const float* x, size_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, size_t n, float* x) const override;
  int64_t clipped(const uint8_t* codes, size_t n) const override;
  bool per_vector() const override { return false; }

 private:
  size_t n_halves() const override { return 2 * size_t(dim_); }  // of a tile

  int dim_, bits_;
  std::vector<float> mean_;  // (D)
  bool lagging_;
};

}  // namespace blockgtq
