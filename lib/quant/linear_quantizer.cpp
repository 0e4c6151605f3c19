#include "quant/linear_quantizer.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "base/float16.h"
#include "quant/codebook.h"
#include "quant/k_means.h"
#include "quant/packing.h"
#include "quant/product.h"
#include "quant/trellis.h"

namespace blockgtq {

namespace {

constexpr size_t kTile = 256;  // vectors that are encoded at a time
constexpr size_t kNormBytes = 2;
constexpr float kLargestHalf = 65504;
constexpr int kMaxCentreBits = 8;
constexpr uint8_t kFlag = 0x80;  // sign bit of the first norm, in its second byte

double dot(const float* x, const float* y, size_t n) {
  double part[4] = {};
  for (size_t j = 0; j < n; ++j) part[j % 4] += double(x[j]) * y[j];
  return (part[0] + part[1]) + (part[2] + part[3]);
}

/// The number of boundaries below y, by binary search. On a tie the lower code wins.
uint8_t nearest(const std::vector<float>& boundaries, int bits, float y) {
  int code = 0;
  for (int step = 1 << (bits - 1); step > 0; step >>= 1) code += y > boundaries[code + step - 1] ? step : 0;
  return uint8_t(code);
}

/// Whether it is a code of the fallback, or of a vector with its mean left in.
bool is_flagged(const uint8_t* code) {
  return code[kNormBytes - 1] & kFlag;
}

}  // namespace

LinearQuantizer::LinearQuantizer(LinearCode code)
    : code_(std::move(code)), spans_(code_.spans()), n_(size_t(code_.n_coords())) {
  for (const LinearCode::Group& group : code_.groups) {
    check(group.d >= 1 && group.bits >= 1 && group.bits <= kMaxBits &&
              group.centroids.size() == (group.trellis ? size_t(kTrellisStates) : size_t(1) << group.bits),
          "LinearQuantizer: a group without bits, or centroids of another number");
    boundaries_.push_back(group.boundaries());
    add_run(group);
    code_bytes_ += size_t(group.d) * group.bits;  // in bits until here, in bytes below
  }
  const size_t dim = code_.dim, n_centres = size_t(code_.n_centres());
  centre_bits_ = n_centres ? std::bit_width(n_centres) - 1 : 0;
  centre_bit_ = 8 * kNormBytes * spans_.size() + code_bytes_;
  code_bytes_ = (centre_bit_ + size_t(centre_bits_) + 7) / 8;
  check(n_ <= dim && code_.forward.size() == n_ * dim && code_.backward.size() == dim * n_ &&
            (code_.mean.empty() || code_.mean.size() == dim) &&
            (code_.weight.empty() || code_.weight.size() == dim),
        "LinearQuantizer: matrices of another size");
  check(code_.centres.size() == n_centres * dim && centre_bits_ <= kMaxCentreBits &&
            (n_centres == 0 || (n_centres >= 2 && std::has_single_bit(n_centres))),
        "LinearQuantizer: centres of a number that is no power of two");
  z_centres_.resize(n_centres * n_);
  multiply_transposed(code_.centres.data(), n_centres, int(dim), code_.forward.data(), int(n_),
                      z_centres_.data());
  check(!code_.mean_flag || ((n_centres > 0 || code_.mean.size() == dim) && !code_.fallback),
        "LinearQuantizer: a flag for the mean without one, or beside a fallback");
  if (!code_.fallback) return;
  fallback_ = std::make_unique<LinearQuantizer>(*code_.fallback);
  check(!fallback_->fallback_ && fallback_->code_bytes_ <= code_bytes_ && fallback_->dim() == code_.dim,
        "LinearQuantizer: a fallback that does not fit");
}

/// Appends a trellis group to the stream.
void LinearQuantizer::add_run(const LinearCode::Group& group) {
  if (!group.trellis) return;
  check(stream_.size() == boundaries_.size() - 1, "LinearQuantizer: a trellis behind scalar codes");
  const auto weight_of = [&](const LinearCode::Group& g) {
    return trellis_weight(code_.one_norm ? int(n_) : g.d, g.bits);
  };
  stream_.push_back(
      {group.d, group.bits, group.centroids.data(), weight_of(group) / weight_of(code_.groups[0])});
  n_stream_ += size_t(group.d);
}

/// Subtracts, from every row of z (n, n_), the centre that makes it shortest.
void LinearQuantizer::subtract_centres(float* z, size_t n, uint8_t* centres) const {
  const std::vector<size_t> nearest = nearest_centres({z, n * n_}, int(n_), z_centres_);
  for (size_t t = 0; t < n; ++t) {
    centres[t] = uint8_t(nearest[t]);
    for (size_t j = 0; j < n_; ++j) z[t * n_ + j] -= z_centres_[nearest[t] * n_ + j];
  }
}

/// unit (n, n_), the coordinates divided by their norms -> indices (n, n_).
void LinearQuantizer::find_codes(const float* unit, size_t n, uint8_t* indices) const {
  if (n_stream_) {
    std::vector<float> part(n * n_stream_);
    std::vector<uint8_t> codes(n * n_stream_);
    for (size_t t = 0; t < n; ++t) std::copy_n(unit + t * n_, n_stream_, &part[t * n_stream_]);
    trellis_encode(part.data(), n, stream_, codes.data());
    for (size_t t = 0; t < n; ++t) std::copy_n(&codes[t * n_stream_], n_stream_, indices + t * n_);
  }
  size_t first = n_stream_;
  for (size_t g = stream_.size(); g < code_.groups.size(); ++g) {
    const LinearCode::Group& group = code_.groups[g];
    for (size_t t = 0; t < n; ++t)
      for (size_t j = t * n_ + first; j < t * n_ + first + size_t(group.d); ++j)
        indices[j] = nearest(boundaries_[g], group.bits, unit[j]);
    first += size_t(group.d);
  }
}

/// The weighted squared error.
double LinearQuantizer::error(const float* x, const float* y) const {
  double sum = 0;
  for (size_t j = 0; j < size_t(code_.dim); ++j) {
    const double e = double(x[j]) - y[j];
    sum += e * e * (code_.weight.empty() ? 1 : code_.weight[j]);
  }
  return sum;
}

/// Encodes by this code alone, without the fallback.
void LinearQuantizer::encode_tile(const float* x, size_t n, uint8_t* codes) const {
  const size_t dim = code_.dim;
  std::vector<float> centred(n * dim), z(n * n_);
  std::vector<uint8_t> centres(n);
  std::fill_n(codes, n * code_bytes_, uint8_t(0));
  for (size_t t = 0; t < n; ++t)
    for (size_t j = 0; j < dim; ++j)
      centred[t * dim + j] = x[t * dim + j] - (code_.mean.empty() ? 0 : code_.mean[j]);
  multiply_transposed(centred.data(), n, int(dim), code_.forward.data(), int(n_), z.data());
  if (centre_bits_) {
    subtract_centres(z.data(), n, centres.data());
    for (size_t t = 0; t < n; ++t)
      pack_bits(&centres[t], 1, centre_bits_, centre_bit_, codes + t * code_bytes_);
  }
  std::vector<bool> keeps_mean(n);
  if (code_.mean_flag) {
    std::vector<float> whole(n * n_);
    multiply_transposed(x, n, int(dim), code_.forward.data(), int(n_), whole.data());
    for (size_t t = 0; t < n; ++t) {
      float *const less = &z[t * n_], *const of_x = &whole[t * n_];
      keeps_mean[t] = dot(of_x, of_x, n_) < dot(less, less, n_);
      if (keeps_mean[t]) std::copy_n(of_x, n_, less);
    }
  }
  for (size_t s = 0; s < spans_.size(); ++s)
    for (size_t t = 0; t < n; ++t) {
      float* part = &z[t * n_ + spans_[s].first];
      const double norm = std::sqrt(dot(part, part, spans_[s].d));
      require_codable(std::isfinite(norm));
      const double inverse = norm > 0 ? 1 / norm : 0;
      for (size_t j = 0; j < spans_[s].d; ++j) part[j] = float(part[j] * inverse);
      const uint16_t r = to_half(std::min(float(norm), kLargestHalf));
      codes[t * code_bytes_ + kNormBytes * s] = uint8_t(r);
      codes[t * code_bytes_ + kNormBytes * s + 1] = uint8_t(r >> 8 | (s == 0 && keeps_mean[t] ? kFlag : 0));
    }
  std::vector<uint8_t> indices(n * n_);
  find_codes(z.data(), n, indices.data());
  for (size_t t = 0; t < n; ++t) {
    size_t offset = 8 * kNormBytes * spans_.size();
    const uint8_t* from = &indices[t * n_];
    for (const LinearCode::Group& group : code_.groups) {
      pack_bits(from, size_t(group.d), group.bits, offset, codes + t * code_bytes_);
      from += group.d;
      offset += size_t(group.d) * group.bits;
    }
  }
}

void LinearQuantizer::encode(const float* x, size_t n, uint8_t* codes) const {
  const size_t dim = code_.dim, tile = std::min(n, kTile);
  std::vector<uint8_t> other(fallback_ ? tile * fallback_->code_bytes_ : 0);
  std::vector<float> ours(fallback_ ? tile * dim : 0), theirs(ours);
  for (size_t first = 0; first < n; first += tile) {
    const size_t count = std::min(tile, n - first);
    const float* in = x + first * dim;
    uint8_t* out = codes + first * code_bytes_;
    encode_tile(in, count, out);
    if (!fallback_) continue;
    decode_tile(out, count, ours.data());
    fallback_->encode_tile(in, count, other.data());
    fallback_->decode_tile(other.data(), count, theirs.data());
    for (size_t t = 0; t < count; ++t) {
      if (error(in + t * dim, &theirs[t * dim]) >= error(in + t * dim, &ours[t * dim])) continue;
      uint8_t* code = out + t * code_bytes_;
      std::fill_n(code, code_bytes_, uint8_t(0));
      std::copy_n(&other[t * fallback_->code_bytes_], fallback_->code_bytes_, code);
      code[kNormBytes - 1] |= kFlag;
    }
  }
}

/// Decodes by this code alone: ignores a fallback's flag.
void LinearQuantizer::decode_tile(const uint8_t* codes, size_t n, float* x) const {
  const size_t dim = code_.dim;
  std::vector<float> z(n * n_);
  std::vector<uint8_t> indices(n_), windows(n_), centres(n);
  for (size_t t = 0; t < n; ++t) {
    const uint8_t* code = codes + t * code_bytes_;
    float* row = &z[t * n_];
    size_t offset = 8 * kNormBytes * spans_.size(), at = 0;
    for (const LinearCode::Group& group : code_.groups) {
      unpack_bits(code, offset, group.bits, group.d, &indices[at]);
      at += size_t(group.d);
      offset += size_t(group.d) * group.bits;
    }
    trellis_windows({indices.data(), n_stream_}, stream_, windows.data());
    std::copy_n(windows.data(), n_stream_, indices.data());
    at = 0;
    for (const LinearCode::Group& group : code_.groups)
      for (int j = 0; j < group.d; ++j, ++at) row[at] = group.centroids[indices[at]];
    if (centre_bits_) unpack_bits(code, centre_bit_, centre_bits_, 1, &centres[t]);
    for (size_t s = 0; s < spans_.size(); ++s) {
      float* part = row + spans_[s].first;
      const uint16_t r = uint16_t(code[kNormBytes * s] | code[kNormBytes * s + 1] << 8);
      const double length = std::sqrt(dot(part, part, spans_[s].d));
      const float scale = length > 0 ? float(std::abs(from_half(r)) / length) : 0;
      for (size_t j = 0; j < spans_[s].d; ++j) part[j] *= scale;
    }
  }
  multiply_transposed(z.data(), n, int(n_), code_.backward.data(), int(dim), x);
  for (size_t t = 0; t < n; ++t) {
    const bool keeps_mean = code_.mean_flag && is_flagged(codes + t * code_bytes_);
    if (keeps_mean) continue;
    if (!code_.mean.empty())
      for (size_t j = 0; j < dim; ++j) x[t * dim + j] += code_.mean[j];
    if (centre_bits_)
      for (size_t j = 0; j < dim; ++j) x[t * dim + j] += code_.centres[centres[t] * dim + j];
  }
}

void LinearQuantizer::decode(const uint8_t* codes, size_t n, float* x) const {
  const size_t dim = code_.dim, tile = std::min(n, kTile);
  for (size_t first = 0; first < n; first += tile)
    decode_tile(codes + first * code_bytes_, std::min(tile, n - first), x + first * dim);
  if (!fallback_) return;
  for (size_t t = 0; t < n; ++t)
    if (is_flagged(codes + t * code_bytes_)) fallback_->decode_tile(codes + t * code_bytes_, 1, x + t * dim);
}

int64_t LinearQuantizer::clipped(const uint8_t* codes, size_t n) const {
  int64_t count = 0;
  for (size_t t = 0; t < n; ++t) {
    const uint8_t* code = codes + t * code_bytes_;
    const LinearQuantizer& by = fallback_ && is_flagged(code) ? *fallback_ : *this;
    count += count_clipped(code, by.n_halves());
  }
  return count;
}

}  // namespace blockgtq
