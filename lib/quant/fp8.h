#pragma once
#include "base/float8.h"
#include "quant/quantizer.h"

namespace blockgtq {

/// The nearest number of E4M3 (base/float8.h), ties to even, saturating at 448.
uint8_t to_e4m3(float value);

/// One byte per coordinate and no scale: the fp8 cache of serving engines.
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
