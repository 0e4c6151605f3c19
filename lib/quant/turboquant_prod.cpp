#include "quant/turboquant_prod.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "quant/affine_code.h"
#include "quant/packing.h"
#include "quant/product.h"
#include "quant/random.h"

namespace blockgtq {

namespace {

constexpr size_t kNormsBytes = 2 * kHalfBytes;

}  // namespace

TurboquantProd::TurboquantProd(int dim, int bits, uint64_t seed) : dim_(dim) {
  check(dim >= 1 && bits >= 1 && bits <= kMaxBits, "TurboquantProd: dimension below 1 or bits outside 1..8");
  if (bits > 1) tq_.emplace(dim, bits - 1, seed);
  // Uses another seed, because the rotation is drawn from `seed`.
  Random random(seed + 1);
  sketch_.resize(size_t(dim) * dim);
  for (float& s : sketch_) s = float(random.standard_normal());
  sketch_transposed_.resize(sketch_.size());
  for (int i = 0; i < dim; ++i)
    for (int j = 0; j < dim; ++j) sketch_transposed_[size_t(j) * dim + i] = sketch_[size_t(i) * dim + j];
}

size_t TurboquantProd::code_bytes(size_t n) const {
  return n * (kNormsBytes + (size_t(dim_) * ((tq_ ? tq_->bits() : 0) + 1) + 7) / 8);
}

void TurboquantProd::encode(const float* x, size_t n, uint8_t* codes) const {
  std::fill_n(codes, code_bytes(n), uint8_t(0));
  std::vector<uint8_t> indices(dim_), signs(dim_);
  std::vector<float> residual(dim_), sketched(dim_);
  for (size_t t = 0; t < n; ++t, x += dim_, codes += code_bytes(1)) {
    size_t offset = 8 * kNormsBytes;
    std::fill(residual.begin(), residual.end(), 0.0f);
    if (tq_) {
      uint16_t norm;
      tq_->encode(x, 1, indices.data(), &norm);
      codes[0] = uint8_t(norm), codes[1] = uint8_t(norm >> 8);
      pack_bits(indices.data(), dim_, tq_->bits(), offset, codes);
      offset += size_t(dim_) * tq_->bits();
      tq_->decode(indices.data(), &norm, 1, residual.data());
    }
    double squares = 0;
    for (int j = 0; j < dim_; ++j) {
      residual[j] = x[j] - residual[j];
      squares += double(residual[j]) * residual[j];
    }
    require_codable(std::isfinite(squares));
    put_half(float(std::sqrt(squares)), codes + kHalfBytes);
    multiply_transposed(residual.data(), 1, dim_, sketch_.data(), dim_, sketched.data());
    for (int j = 0; j < dim_; ++j) signs[j] = sketched[j] > 0;
    pack_bits(signs.data(), dim_, 1, offset, codes);
  }
}

void TurboquantProd::decode(const uint8_t* codes, size_t n, float* x) const {
  std::vector<uint8_t> indices(dim_);
  std::vector<float> signs(dim_), residual(dim_);
  for (size_t t = 0; t < n; ++t, x += dim_, codes += code_bytes(1)) {
    size_t offset = 8 * kNormsBytes;
    std::fill_n(x, dim_, 0.0f);
    if (tq_) {
      const uint16_t norm = uint16_t(codes[0] | codes[1] << 8);
      unpack_bits(codes, offset, tq_->bits(), dim_, indices.data());
      offset += size_t(dim_) * tq_->bits();
      tq_->decode(indices.data(), &norm, 1, x);
    }
    unpack_bits(codes, offset, 1, dim_, indices.data());
    for (int j = 0; j < dim_; ++j) signs[j] = indices[j] ? 1.0f : -1.0f;
    multiply_transposed(signs.data(), 1, dim_, sketch_transposed_.data(), dim_, residual.data());
    const double scale = std::sqrt(std::numbers::pi / 2) / dim_ * get_half(codes + kHalfBytes);
    for (int j = 0; j < dim_; ++j) x[j] += float(scale * residual[j]);
  }
}

}  // namespace blockgtq
