#include "quant/tq_mse.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"
#include "quant/codebook.h"
#include "quant/product.h"
#include "quant/quantizer.h"
#include "quant/rotation.h"

namespace blockgtq {

namespace {

constexpr size_t kTile = 256;  // vectors at a time: 2 x 128 KB at d = 128, within a core's cache
constexpr float kLargestHalf = 65504;

// |x| of d floats in double, added in four interleaved chains of fixed order.
double norm(const float* x, int d) {
  double part[4] = {};
  for (int j = 0; j < d; ++j) part[j % 4] += double(x[j]) * x[j];
  return std::sqrt((part[0] + part[1]) + (part[2] + part[3]));
}

}  // namespace

TqMse::TqMse(int d, int bits, uint64_t seed, Codebook codebook) : d_(d), bits_(bits) {
  check(d >= 1, "TqMse: dimension below 1");
  rotation_ = shared_rotation(d, seed);
  const bool exact = codebook == Codebook::exact;
  const std::vector<double>& book = exact ? exact_codebook(d, bits) : normal_codebook(bits);
  const double scale = exact ? 1 : 1 / std::sqrt(double(d));
  for (const double c : book) centroids_.push_back(float(c * scale));
  for (size_t i = 0; i + 1 < book.size(); ++i)
    boundaries_.push_back(float(0.5 * (book[i] + book[i + 1]) * scale));
}

void TqMse::encode(const float* x, size_t n, uint8_t* codes, uint16_t* norms) const {
  const size_t d = d_;
  const size_t tile = std::min(n, kTile);
  std::vector<float> unit(tile * d), rotated(tile * d);
  for (size_t first = 0; first < n; first += tile) {
    const size_t count = std::min(tile, n - first);
    for (size_t t = 0; t < count; ++t) {
      const float* in = x + (first + t) * d;
      const double r = norm(in, d_);
      require_codable(std::isfinite(r));
      norms[first + t] = to_half(std::min(float(r), kLargestHalf));
      const double inverse = r > 0 ? 1 / r : 0;
      for (size_t j = 0; j < d; ++j) unit[t * d + j] = float(in[j] * inverse);
    }
    multiply_transposed(unit.data(), count, d_, rotation_->data(), d_, rotated.data());
    // The code is the number of boundaries below y, by binary search. On a tie the lower code wins.
    uint8_t* out = codes + first * d;
    const float* boundary = boundaries_.data();
    for (size_t j = 0; j < count * d; ++j) {
      int code = 0;
      for (int step = 1 << (bits_ - 1); step > 0; step >>= 1)
        code += rotated[j] > boundary[code + step - 1] ? step : 0;
      out[j] = uint8_t(code);
    }
  }
}

void TqMse::decode(const uint8_t* codes, const uint16_t* norms, size_t n, float* x) const {
  const size_t d = d_;
  const size_t tile = std::min(n, kTile);
  std::vector<float> scaled(tile * d);
  for (size_t first = 0; first < n; first += tile) {
    const size_t count = std::min(tile, n - first);
    for (size_t t = 0; t < count; ++t) {
      float* y = &scaled[t * d];
      const uint8_t* in = codes + (first + t) * d;
      for (size_t j = 0; j < d; ++j) y[j] = centroids_[in[j]];
      // Norm correction: the centroids of a unit vector do not have length one exactly. No codebook has a
      // centroid of 0, so the length is positive.
      const float length = float(from_half(norms[first + t]) / norm(y, d_));
      for (size_t j = 0; j < d; ++j) y[j] *= length;
    }
    multiply(scaled.data(), count, d_, rotation_->data(), d_, x + first * d);
  }
}

}  // namespace blockgtq
