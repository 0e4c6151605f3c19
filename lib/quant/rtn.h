#pragma once
#include "quant/quantizer.h"

namespace blockgtq {

/// Round to nearest, per token: a uniform grid between the smallest and the largest coordinate of a vector. A
/// code holds the fp16 scale, the fp16 zero, then the bit stream. bits in 1..8.
class RoundToNearest final : public Quantizer {
 public:
  RoundToNearest(int dim, int bits);
  int dim() const override { return dim_; }
  size_t code_bytes(size_t n = 1) const override;
  void encode(const float* x, size_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, size_t n, float* x) const override;

 private:
  size_t n_halves() const override { return 2; }

  int dim_, bits_;
};

}  // namespace blockgtq
