#include "quant/rtn.h"

#include <algorithm>

#include "base/error.h"
#include "quant/affine_code.h"
#include "quant/codebook.h"
#include "quant/packing.h"

namespace blockgtq {

RoundToNearest::RoundToNearest(int dim, int bits) : dim_(dim), bits_(bits) {
  check(dim >= 1 && bits >= 1 && bits <= kMaxBits, "RoundToNearest: dimension below 1 or bits outside 1..8");
}

size_t RoundToNearest::code_bytes(size_t n) const {
  return n * (kGridBytes + (size_t(dim_) * bits_ + 7) / 8);
}

void RoundToNearest::encode(const float* x, size_t n, uint8_t* codes) const {
  std::fill_n(codes, code_bytes(n), uint8_t(0));
  std::vector<uint8_t> indices(dim_);
  for (size_t t = 0; t < n; ++t, x += dim_, codes += code_bytes(1)) {
    const auto [least, largest] = std::minmax_element(x, x + dim_);
    AffineGrid::spanning(*least, *largest, bits_).put(codes);
    const AffineGrid grid = AffineGrid::get(codes, bits_);
    for (int j = 0; j < dim_; ++j) indices[j] = grid.encode(x[j]);
    pack_bits(indices.data(), dim_, bits_, 8 * kGridBytes, codes);
  }
}

void RoundToNearest::decode(const uint8_t* codes, size_t n, float* x) const {
  std::vector<uint8_t> indices(dim_);
  for (size_t t = 0; t < n; ++t, x += dim_, codes += code_bytes(1)) {
    const AffineGrid grid = AffineGrid::get(codes, bits_);
    unpack_bits(codes, 8 * kGridBytes, bits_, dim_, indices.data());
    for (int j = 0; j < dim_; ++j) x[j] = grid.decode(indices[j]);
  }
}

}  // namespace blockgtq
