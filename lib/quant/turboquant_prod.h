#pragma once
#include <optional>

#include "quant/quantizer.h"
#include "quant/tq_mse.h"

namespace blockgtq {

/// TurboQuant-prod, an unbiased estimate of inner products. It spends b - 1 bits on TqMse (none at 1 bit),
/// and one bit per coordinate on the residual e: sign(S e), with S (d, d) of N(0, 1). Decoded: e^ = sqrt(pi /
/// 2) / d |e| S^T sign. A code holds the fp16 norms of x and e, the stream of TqMse, then the signs.
class TurboquantProd final : public Quantizer {
 public:
  TurboquantProd(int dim, int bits, uint64_t seed = 42);
  int dim() const override { return dim_; }
  size_t code_bytes(size_t n = 1) const override;
  void encode(const float* x, size_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, size_t n, float* x) const override;

 private:
  size_t n_halves() const override { return 2; }

  int dim_;
  std::optional<TqMse> tq_;
  std::vector<float> sketch_, sketch_transposed_;  // (d, d)
};

}  // namespace blockgtq
