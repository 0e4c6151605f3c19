#include "quant/linear_quantizer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"
#include "quant/codebook.h"
#include "quant/packing.h"
#include "quant/product.h"

namespace blockgtq {

namespace {

constexpr size_t kTile = 256;  // vectors in flight
constexpr size_t kNormBytes = 2;
constexpr float kLargestHalf = 65504;

double dot(const float* x, const float* y, size_t n) {
  double part[4] = {};
  for (size_t j = 0; j < n; ++j) part[j % 4] += double(x[j]) * y[j];
  return (part[0] + part[1]) + (part[2] + part[3]);
}

/// The number of boundaries below y, found by halving; a tie goes to the lower code.
uint8_t nearest(const std::vector<float>& boundaries, int bits, float y) {
  int code = 0;
  for (int step = 1 << (bits - 1); step > 0; step >>= 1) code += y > boundaries[code + step - 1] ? step : 0;
  return uint8_t(code);
}

}  // namespace

LinearQuantizer::LinearQuantizer(LinearCode code) : code_(std::move(code)) {
  for (size_t g = 0; g < code_.groups.size(); ++g) {
    const LinearCode::Group& group = code_.groups[g];
    check(group.d >= 1 && group.bits >= 1 && group.bits <= kMaxBits &&
              group.centroids.size() == size_t(1) << group.bits,
          "LinearQuantizer: a group without bits, or centroids of another number");
    std::vector<float> boundaries;
    for (size_t i = 0; i + 1 < group.centroids.size(); ++i)
      boundaries.push_back(float(0.5 * (double(group.centroids[i]) + group.centroids[i + 1])));
    boundaries_.push_back(std::move(boundaries));
    if (g == 0 || !code_.one_norm)
      spans_.push_back({g, 1, n_, size_t(group.d)});
    else
      spans_[0].n_groups++, spans_[0].d += group.d;
    n_ += group.d;
    code_bytes_ += size_t(group.d) * group.bits;  // bits, up to here
  }
  code_bytes_ = kNormBytes * spans_.size() + (code_bytes_ + 7) / 8;
  const size_t dim = code_.dim;
  check(n_ <= dim && code_.forward.size() == n_ * dim && code_.backward.size() == dim * n_ &&
            (code_.mean.empty() || code_.mean.size() == dim),
        "LinearQuantizer: matrices of another size");
}

/// The indices of one span of z, and its norm.
float LinearQuantizer::encode_span(const Span& span, const float* z, uint8_t* indices) const {
  const double norm = std::sqrt(dot(z, z, span.d));
  require_codable(std::isfinite(norm));
  const double inverse = norm > 0 ? 1 / norm : 0;
  size_t at = 0;
  for (size_t g = span.first_group; g < span.first_group + span.n_groups; ++g)
    for (int j = 0; j < code_.groups[g].d; ++j, ++at)
      indices[at] = nearest(boundaries_[g], code_.groups[g].bits, float(z[at] * inverse));
  return std::min(float(norm), kLargestHalf);
}

void LinearQuantizer::encode(const float* x, size_t n, uint8_t* codes) const {
  const size_t dim = code_.dim, tile = std::min(n, kTile);
  std::vector<float> centred(tile * dim), z(tile * n_);
  std::vector<uint8_t> indices(n_);
  std::fill_n(codes, n * code_bytes_, uint8_t(0));
  for (size_t first = 0; first < n; first += tile) {
    const size_t count = std::min(tile, n - first);
    for (size_t t = 0; t < count; ++t)
      for (size_t j = 0; j < dim; ++j)
        centred[t * dim + j] = x[(first + t) * dim + j] - (code_.mean.empty() ? 0 : code_.mean[j]);
    multiply_transposed(centred.data(), count, int(dim), code_.forward.data(), int(n_), z.data());
    for (size_t t = 0; t < count; ++t) {
      uint8_t* code = codes + (first + t) * code_bytes_;
      for (size_t s = 0; s < spans_.size(); ++s) {
        const uint16_t r =
            to_half(encode_span(spans_[s], &z[t * n_ + spans_[s].first], &indices[spans_[s].first]));
        code[kNormBytes * s] = uint8_t(r);
        code[kNormBytes * s + 1] = uint8_t(r >> 8);
      }
      size_t offset = 8 * kNormBytes * spans_.size(), at = 0;
      for (const LinearCode::Group& group : code_.groups) {
        pack_bits(&indices[at], group.d, group.bits, offset, code);
        at += group.d;
        offset += size_t(group.d) * group.bits;
      }
    }
  }
}

void LinearQuantizer::decode(const uint8_t* codes, size_t n, float* x) const {
  const size_t dim = code_.dim, tile = std::min(n, kTile);
  std::vector<float> z(tile * n_);
  std::vector<uint8_t> indices(n_);
  for (size_t first = 0; first < n; first += tile) {
    const size_t count = std::min(tile, n - first);
    for (size_t t = 0; t < count; ++t) {
      const uint8_t* code = codes + (first + t) * code_bytes_;
      float* row = &z[t * n_];
      size_t offset = 8 * kNormBytes * spans_.size(), at = 0;
      for (const LinearCode::Group& group : code_.groups) {
        unpack_bits(code, offset, group.bits, group.d, indices.data());
        for (int j = 0; j < group.d; ++j) row[at++] = group.centroids[indices[j]];
        offset += size_t(group.d) * group.bits;
      }
      for (size_t s = 0; s < spans_.size(); ++s) {
        float* part = row + spans_[s].first;
        const uint16_t r = uint16_t(code[kNormBytes * s] | code[kNormBytes * s + 1] << 8);
        // No codebook holds a zero.
        const float length = float(from_half(r) / std::sqrt(dot(part, part, spans_[s].d)));
        for (size_t j = 0; j < spans_[s].d; ++j) part[j] *= length;
      }
    }
    multiply_transposed(z.data(), count, int(n_), code_.backward.data(), int(dim), x + first * dim);
    if (!code_.mean.empty())
      for (size_t t = first; t < first + count; ++t)
        for (size_t j = 0; j < dim; ++j) x[t * dim + j] += code_.mean[j];
  }
}

}  // namespace blockgtq
