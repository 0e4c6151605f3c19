#include "quant/product.h"

#include <algorithm>
#include <cmath>
#include <vector>
#ifdef __FMA__
#include <immintrin.h>
#endif

namespace blockgtq {

namespace {

// Register tile: kRows rows of a by kPanel columns of b; 12 accumulators of 8 floats, of 16
// registers.
constexpr int kRows = 6;
constexpr int kPanel = 16;

typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));

inline Lanes fused(float a, Lanes b, Lanes c) {
#ifdef __FMA__
  return Lanes(_mm256_fmadd_ps(_mm256_set1_ps(a), __m256(b), __m256(c)));
#else
  for (int j = 0; j < 8; ++j) c[j] = std::fma(a, b[j], c[j]);
  return c;
#endif
}

// R rows of a times one panel (depth, kPanel) into the first `width` columns at out.
template <int R>
void tile(const float* a, int depth, const float* panel, float* out, int cols, int width) {
  Lanes acc[R][2] = {};
  for (int k = 0; k < depth; ++k) {
    const Lanes left = *reinterpret_cast<const Lanes*>(panel + size_t(k) * kPanel);
    const Lanes right = *reinterpret_cast<const Lanes*>(panel + size_t(k) * kPanel + 8);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const float x = a[size_t(r) * depth + k];
      acc[r][0] = fused(x, left, acc[r][0]);
      acc[r][1] = fused(x, right, acc[r][1]);
    }
  }
  for (int r = 0; r < R; ++r)
    std::copy_n(reinterpret_cast<const float*>(acc[r]), width, out + size_t(r) * cols);
}

// element(k, j) of b; a panel holds kPanel columns, those past the edge are zero.
template <class Element>
void product(const float* a, size_t n, int depth, int cols, float* out, Element element) {
  std::vector<float> panel(size_t(depth) * kPanel);
  for (int first = 0; first < cols; first += kPanel) {
    const int width = std::min(kPanel, cols - first);
    std::fill(panel.begin(), panel.end(), 0.0f);
    for (int k = 0; k < depth; ++k)
      for (int j = 0; j < width; ++j) panel[size_t(k) * kPanel + j] = element(k, first + j);
    size_t row = 0;
    for (; row + kRows <= n; row += kRows)
      tile<kRows>(a + row * depth, depth, panel.data(), out + row * cols + first, cols, width);
    for (; row < n; ++row)
      tile<1>(a + row * depth, depth, panel.data(), out + row * cols + first, cols, width);
  }
}

}  // namespace

void multiply(const float* a, size_t n, int depth, const float* b, int cols, float* out) {
  product(a, n, depth, cols, out, [=](int k, int j) { return b[size_t(k) * cols + j]; });
}

void multiply_transposed(const float* a, size_t n, int depth, const float* b, int cols, float* out) {
  product(a, n, depth, cols, out, [=](int k, int j) { return b[size_t(j) * depth + k]; });
}

}  // namespace blockgtq
