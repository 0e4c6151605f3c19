#pragma once
#include "quant/quantizer.h"

namespace blockgtq {

/// A LinearCode at work. A code is: the fp16 norms in the order of the groups (or the one norm), then the
/// groups' bit streams in the same order, padded to a byte at the end.
class LinearQuantizer final : public Quantizer {
 public:
  explicit LinearQuantizer(LinearCode code);
  int dim() const override { return code_.dim; }
  size_t code_bytes(size_t n = 1) const override { return n * code_bytes_; }
  void encode(const float* x, size_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, size_t n, float* x) const override;
  std::optional<LinearCode> linear_code() const override { return code_; }

 private:
  size_t n_halves() const override { return spans_.size(); }

  /// Groups that share a norm.
  struct Span {
    size_t first_group, n_groups, first, d;  // coordinates of z
  };
  float encode_span(const Span& span, const float* z, uint8_t* indices) const;

  LinearCode code_;
  std::vector<std::vector<float>> boundaries_;  // per group (2^bits - 1)
  std::vector<Span> spans_;
  size_t n_ = 0, code_bytes_ = 0;
};

}  // namespace blockgtq
