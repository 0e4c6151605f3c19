#pragma once
#include <array>
#include <cstdint>

namespace blockgtq {

// A tile holds rows of the left-hand matrix: so many columns that a panel of as many rows stays in the
// first-level cache beside it, at a stride that spreads it over that cache's sets.
inline constexpr int64_t kTileDepth = 192, kTileStride = kTileDepth + 16;
inline constexpr int kMostTileRows = 14;

/// The innermost loop of multiply_packed(). out (rows, kPanel), whose rows are out_stride apart, becomes a
/// tile times one panel, depth <= kTileDepth; with `add` it continues from what `out` holds. Every output is
/// one chain of fused multiply-adds in ascending depth, so every kernel gives the same bits.
struct ProductKernel {
  using Call = void (*)(const float* tile, int64_t depth, const float* panel, float* out, int64_t out_stride,
                        bool add);
  int most_rows = 0;                          // that the registers hold
  std::array<Call, kMostTileRows> of_rows{};  // of_rows[r - 1] is for r rows, 1 to most_rows
};

const ProductKernel& avx2_kernel();
/// Call it only where has_avx512().
const ProductKernel& avx512_kernel();
/// The faster one that this processor has.
const ProductKernel& product_kernel();

}  // namespace blockgtq
