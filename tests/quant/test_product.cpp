#include <cmath>
#include <vector>

#include "base/processor.h"
#include "catch.h"
#include "quant/product.h"
#include "quant/product_kernel.h"
#include "quant/random.h"

using namespace blockgtq;

TEST_CASE("a product is one fused chain per entry, whatever its shape") {
  Random random(3);
  // Around the tiles of 6 and 14 rows, 256 deep, and the panels of 32 columns, and beyond.
  for (const size_t n : {0, 1, 5, 6, 7, 13, 14, 15, 29})
    for (const int depth : {1, 2, 31, 128, 256, 257, 520})
      for (const int cols : {1, 2, 15, 16, 17, 32, 50}) {
        std::vector<float> a(n * depth), b(size_t(depth) * cols), bt(b.size()), out(n * cols, -1),
            out_t(n * cols, -1);
        for (float& x : a) x = float(random.standard_normal());
        for (float& x : b) x = float(random.standard_normal());
        for (int k = 0; k < depth; ++k)
          for (int j = 0; j < cols; ++j) bt[size_t(j) * depth + k] = b[size_t(k) * cols + j];
        multiply(a.data(), n, depth, b.data(), cols, out.data());
        multiply_transposed(a.data(), n, depth, bt.data(), cols, out_t.data());
        for (size_t i = 0; i < n; ++i)
          for (int j = 0; j < cols; ++j) {
            float sum = 0;
            for (int k = 0; k < depth; ++k) sum = std::fma(a[i * depth + k], b[size_t(k) * cols + j], sum);
            REQUIRE(out[i * cols + j] == sum);
            REQUIRE(out_t[i * cols + j] == sum);
          }
      }
}

TEST_CASE("every kernel of a product gives the bits of the chain") {
  Random random(5);
  constexpr int64_t kDepth = 77, kStride = kPanel + 3;
  std::vector<float> tile(kMostTileRows * kTileStride), panel(kDepth * kPanel);
  for (float& x : tile) x = float(random.standard_normal());
  for (float& x : panel) x = float(random.standard_normal());
  std::vector<const ProductKernel*> kernels = {&avx2_kernel()};
  if (has_avx512()) kernels.push_back(&avx512_kernel());
  for (const ProductKernel* kernel : kernels)
    for (int rows = 1; rows <= kernel->most_rows; ++rows)
      for (const bool add : {false, true}) {
        std::vector<float> out(size_t(rows) * kStride, 0.25f);
        kernel->of_rows[size_t(rows - 1)](tile.data(), kDepth, panel.data(), out.data(), kStride, add);
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t j = 0; j < kStride; ++j) {
            float sum = add || j >= kPanel ? 0.25f : 0;
            for (int64_t k = 0; k < kDepth && j < kPanel; ++k)
              sum = std::fma(tile[size_t(r * kTileStride + k)], panel[size_t(k * kPanel + j)], sum);
            REQUIRE(out[size_t(r * kStride + j)] == sum);
          }
      }
}

TEST_CASE("a packed product goes on from what is there, and takes parts of larger panels and matrices") {
  Random random(7);
  constexpr int64_t kRows = 17, kWhole = 70, kFirst = 9, kDepth = 50, kCols = 45, kOutStride = 60;
  std::vector<float> a(kRows * kWhole), b(kWhole * kCols), out(kRows * kOutStride, -1);
  for (float& x : a) x = float(random.standard_normal());
  for (float& x : b) x = float(random.standard_normal());
  std::vector<float> panels(size_t(packed_floats(kWhole, kCols)));
  pack(b.data(), kCols, kWhole, kCols, panels.data());
  // Rows [kFirst, kFirst + kDepth) of b in two steps.
  const auto step = [&](int64_t first, int64_t depth, bool add) {
    multiply_packed({a.data() + first, kWhole}, kRows, depth, panels.data() + first * kPanel, kCols,
                    {out.data(), kOutStride}, add, kWhole * kPanel);
  };
  step(kFirst, 20, false);
  step(kFirst + 20, kDepth - 20, true);
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kOutStride; ++j) {
      float sum = j < kCols ? 0 : -1;
      for (int64_t k = kFirst; k < kFirst + kDepth && j < kCols; ++k)
        sum = std::fma(a[size_t(i * kWhole + k)], b[size_t(k * kCols + j)], sum);
      REQUIRE(out[size_t(i * kOutStride + j)] == sum);
    }
}
