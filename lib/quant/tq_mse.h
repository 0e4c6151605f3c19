#pragma once
#include <span>
#include <vector>

#include "quant/codebook.h"
#include "quant/quantizer.h"

namespace blockgtq {

/// TurboQuant-MSE of one group of d coordinates. Encoding: r = |x|, y = Rot (x / r), the nearest centroid of
/// every y_j. Decoding: the centroids are scaled to unit length (norm correction), rotated back, and
/// multiplied by r. A zero vector stays zero. Deterministic: the codes depend neither on n nor on the number
/// of threads.
class TqMse {
 public:
  /// bits in 1..8. `seed` is that of the rotation.
  TqMse(int d, int bits, uint64_t seed, Codebook codebook = Codebook::reference);
  int dim() const { return d_; }
  int bits() const { return bits_; }

  /// x (n, d) -> codes (n, d) of 0..2^bits - 1, norms (n) rounded to fp16 (saturating at 65504).
  void encode(const float* x, size_t n, uint8_t* codes, uint16_t* norms) const;
  void decode(const uint8_t* codes, const uint16_t* norms, size_t n, float* x) const;

  /// The tables, for kernels on a device.
  const std::vector<float>& rotation() const { return *rotation_; }     // (d, d); one object per (d, seed)
  const std::vector<float>& centroids() const { return centroids_; }    // (2^bits) ascending
  const std::vector<float>& boundaries() const { return boundaries_; }  // (2^bits - 1) ascending

 private:
  int d_, bits_;
  std::shared_ptr<const std::vector<float>> rotation_;  // (d, d)
  std::vector<float> centroids_, boundaries_;           // (2^bits), (2^bits - 1), divided by sqrt(d)
};

}  // namespace blockgtq
