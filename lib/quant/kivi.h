#pragma once
#include "quant/quantizer.h"

namespace blockgtq {

/// Per channel, as KIVI quantizes keys: an even grid for every coordinate over 32 neighbouring tokens, whose
/// fp16 scale and zero are refreshed with the next 32. A tile of up to 32 tokens is stored as scale and zero
/// of every coordinate, then the bit stream, token by token, padded to a byte. (The last, incomplete tile is
/// quantized as well, where KIVI keeps it in fp16.)
class Kivi final : public Quantizer {
 public:
  static constexpr size_t kTokens = 32;

  Kivi(int dim, int bits, std::vector<float> mean = {});  // mean (D) is taken off first; empty: zero
  int dim() const override { return dim_; }
  size_t code_bytes(size_t n = 1) const override;
  void encode(const float* x, size_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, size_t n, float* x) const override;
  bool per_vector() const override { return false; }

 private:
  int dim_, bits_;
  std::vector<float> mean_;  // (D)
};

}  // namespace blockgtq
