#pragma once
#include <memory>

#include "quant/quantizer.h"
#include "quant/trellis.h"

namespace blockgtq {

/// Encodes and decodes by a LinearCode. A code holds the fp16 norms in the order of the groups (or the one
/// norm), the groups' bit streams in the same order, and the number of the centre, padded to a byte at the
/// end. Where the sign bit of the first norm is set, it is a code of the fallback, padded to the same length;
/// or, by LinearCode::mean_flag, of a vector with its mean and centre left in.
class LinearQuantizer final : public Quantizer {
 public:
  explicit LinearQuantizer(LinearCode code);
  int dim() const override { return code_.dim; }
  size_t code_bytes(size_t n = 1) const override { return n * code_bytes_; }
  void encode(const float* x, size_t n, uint8_t* codes) const override;
  void decode(const uint8_t* codes, size_t n, float* x) const override;
  int64_t clipped(const uint8_t* codes, size_t n) const override;
  std::optional<LinearCode> linear_code() const override { return code_; }

 private:
  size_t n_halves() const override { return spans_.size(); }

  void encode_tile(const float* x, size_t n, uint8_t* codes) const;
  void add_run(const LinearCode::Group& group);
  void find_codes(const float* unit, size_t n, uint8_t* indices) const;
  void decode_tile(const uint8_t* codes, size_t n, float* x) const;
  void subtract_centres(float* z, size_t n, uint8_t* centres) const;
  double error(const float* x, const float* y) const;

  LinearCode code_;
  std::vector<std::vector<float>> boundaries_;  // per group (2^bits - 1); empty for a trellis
  std::vector<TrellisRun> stream_;              // of the trellis groups, which come first
  std::vector<LinearCode::Span> spans_;
  std::vector<float> z_centres_;  // (M, n) forward times the centres
  size_t n_ = 0, n_stream_ = 0, code_bytes_ = 0, centre_bit_ = 0;
  int centre_bits_ = 0;
  std::unique_ptr<LinearQuantizer> fallback_;
};

}  // namespace blockgtq
