#include "quant/kivi.h"

#include <algorithm>

#include "base/error.h"
#include "quant/affine_code.h"
#include "quant/codebook.h"
#include "quant/packing.h"

namespace blockgtq {

Kivi::Kivi(int dim, int bits, std::vector<float> mean, bool lagging)
    : dim_(dim), bits_(bits), mean_(std::move(mean)), lagging_(lagging) {
  check(dim >= 1 && bits >= 1 && bits <= kMaxBits, "Kivi: dimension below 1 or bits outside 1..8");
  if (mean_.empty()) mean_.resize(dim);
  check(mean_.size() == size_t(dim), "Kivi: mean of another size");
}

size_t Kivi::code_bytes(size_t n) const {
  const auto tile = [&](size_t tokens) {
    return kGridBytes * dim_ + (tokens * size_t(dim_) * bits_ + 7) / 8;
  };
  return n / kTokens * tile(kTokens) + (n % kTokens ? tile(n % kTokens) : 0);
}

void Kivi::encode(const float* x, size_t n, uint8_t* codes) const {
  std::fill_n(codes, code_bytes(n), uint8_t(0));
  std::vector<uint8_t> indices(kTokens * dim_);
  std::vector<AffineGrid> before(dim_);  // the grids of the previous tile
  for (size_t first = 0; first < n; first += kTokens) {
    const size_t count = std::min(kTokens, n - first);
    for (int j = 0; j < dim_; ++j) {
      float least = x[j] - mean_[j], largest = least;
      for (size_t t = 1; t < count; ++t) {
        least = std::min(least, x[t * dim_ + j] - mean_[j]);
        largest = std::max(largest, x[t * dim_ + j] - mean_[j]);
      }
      const AffineGrid own = AffineGrid::spanning(least, largest, bits_),
                       grid = lagging_ && first > 0 ? before[j] : own;
      before[j] = own;
      grid.put(codes + j * kGridBytes);
      for (size_t t = 0; t < count; ++t) indices[t * dim_ + j] = grid.encode(x[t * dim_ + j] - mean_[j]);
    }
    pack_bits(indices.data(), count * dim_, bits_, 8 * kGridBytes * dim_, codes);
    x += count * dim_;
    codes += code_bytes(count);
  }
}

int64_t Kivi::clipped(const uint8_t* codes, size_t n) const {
  int64_t count = 0;
  for (size_t first = 0; first < n; first += kTokens) {
    count += count_clipped(codes, n_halves());
    codes += code_bytes(std::min(kTokens, n - first));
  }
  return count;
}

void Kivi::decode(const uint8_t* codes, size_t n, float* x) const {
  std::vector<uint8_t> indices(kTokens * dim_);
  for (size_t first = 0; first < n; first += kTokens) {
    const size_t count = std::min(kTokens, n - first);
    unpack_bits(codes, 8 * kGridBytes * dim_, bits_, count * dim_, indices.data());
    for (int j = 0; j < dim_; ++j) {
      const AffineGrid grid = AffineGrid::get(codes + j * kGridBytes, bits_);
      for (size_t t = 0; t < count; ++t) x[t * dim_ + j] = mean_[j] + grid.decode(indices[t * dim_ + j]);
    }
    x += count * dim_;
    codes += code_bytes(count);
  }
}

}  // namespace blockgtq
