#pragma once
#include <array>
#include <cstdint>

namespace blockgtq {

// A tile of rows, copied from the left side of a product: so many columns at a time that it stays in the
// first-level cache, at a stride that spreads it over that cache's sets.
inline constexpr int64_t kTileDepth = 256, kTileStride = kTileDepth + 16;
inline constexpr int kMostTileRows = 14;

/// The innermost loop of multiply_packed(): out (rows, kPanel), rows out_stride apart, is a tile times one
/// panel, depth <= kTileDepth, or goes on from what it holds where `add`. One chain of fused multiply-adds
/// per output in ascending depth: every kernel gives the same bits.
struct ProductKernel {
  using Call = void (*)(const float* tile, int64_t depth, const float* panel, float* out, int64_t out_stride,
                        bool add);
  int most_rows = 0;                          // as many as there are registers for
  std::array<Call, kMostTileRows> of_rows{};  // of 1 to most_rows rows, by rows - 1
};

const ProductKernel& avx2_kernel();
/// Only where has_avx512().
const ProductKernel& avx512_kernel();
/// The faster one that this processor has.
const ProductKernel& product_kernel();

}  // namespace blockgtq
