#pragma once
#include "quant/quantizer.h"

namespace blockgtq {

/// IEEE-like e4m3 as accelerators store it: bias 7, largest 448, no infinities, round to nearest even,
/// saturating.
uint8_t to_e4m3(float value);
float from_e4m3(uint8_t bits);

/// One byte per coordinate, no scale: what serving engines call an fp8 cache.
class Fp8 final : public Quantizer {
 public:
  explicit Fp8(int dim) : dim_(dim) {}
  int dim() const override { return dim_; }
  size_t code_bytes(size_t n = 1) const override { return n * dim_; }
  void encode(const float* x, size_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, size_t n, float* x) const override;

 private:
  size_t n_halves() const override { return 0; }

  int dim_;
};

}  // namespace blockgtq
