#include "quant/product.h"

#include <immintrin.h>

#include <algorithm>
#include <vector>

#include "quant/product_kernel.h"

namespace blockgtq {

namespace {

/// std::copy_n for some hundred floats. GCC compiles that to an instruction that is slow to start.
void copy_row(const float* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256 left = _mm256_loadu_ps(from + i), right = _mm256_loadu_ps(from + i + 8);
    _mm256_storeu_ps(to + i, left);
    _mm256_storeu_ps(to + i + 8, right);
  }
  for (; i < n; ++i) to[i] = from[i];
}

/// A transposed tile: to[j * kPanel + i] = from[i * stride + j] for i and j below 8.
void transpose8(const float* from, int64_t stride, float* to) {
  __m256 x[8], y[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) x[i] = _mm256_loadu_ps(from + i * stride);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    x[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
    x[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xee);
    x[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
    x[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(to + i * kPanel, _mm256_permute2f128_ps(x[i], x[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * kPanel, _mm256_permute2f128_ps(x[i], x[i + 4], 0x31));
  }
}

}  // namespace

void pack(const float* b, int64_t stride, int64_t depth, int64_t cols, float* panels) {
  for (int64_t first = 0; first < cols; first += kPanel, panels += depth * kPanel) {
    const int64_t width = std::min(kPanel, cols - first);
    for (int64_t k = 0; k < depth; ++k) {
      copy_row(b + k * stride + first, width, panels + k * kPanel);
      std::fill_n(panels + k * kPanel + width, kPanel - width, 0.0f);
    }
  }
}

void pack_transposed(const float* b, int64_t stride, int64_t depth, int64_t cols, float* panels) {
  for (int64_t first = 0; first < cols; first += kPanel, panels += depth * kPanel) {
    const int64_t width = std::min(kPanel, cols - first), whole = width / 8 * 8, deep = depth / 8 * 8;
    for (int64_t j = 0; j < whole; j += 8) {
      const float* from = b + (first + j) * stride;
      for (int64_t k = 0; k < deep; k += 8) transpose8(from + k, stride, panels + k * kPanel + j);
      for (int64_t k = deep; k < depth; ++k)
        for (int64_t i = 0; i < 8; ++i) panels[k * kPanel + j + i] = from[i * stride + k];
    }
    for (int64_t j = whole; j < kPanel; ++j)
      for (int64_t k = 0; k < depth; ++k)
        panels[k * kPanel + j] = j < width ? b[(first + j) * stride + k] : 0.0f;
  }
}

void multiply_packed(Rows<const float> a, int64_t n, int64_t depth, const float* panels, int64_t cols,
                     Rows<float> out, bool add, int64_t panel_stride) {
  const ProductKernel& k = product_kernel();
  if (panel_stride == 0) panel_stride = depth * kPanel;
  const int64_t groups = (n + k.most_rows - 1) / k.most_rows;  // of rows, as equal as can be
  alignas(64) float tile[kMostTileRows * kTileStride], edge[kMostTileRows * kPanel] = {};
  for (int64_t k0 = 0; k0 < depth; k0 += kTileDepth) {
    const int64_t deep = std::min(kTileDepth, depth - k0);
    const bool more = add || k0 > 0;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = n * g / groups, rows = n * (g + 1) / groups - first;
      const ProductKernel::Call kernel = k.of_rows[size_t(rows - 1)];
      for (int64_t r = 0; r < rows; ++r)
        copy_row(a.data + (first + r) * a.stride + k0, deep, tile + r * kTileStride);
      const float* panel = panels + k0 * kPanel;
      for (int64_t c = 0; c < cols; c += kPanel, panel += panel_stride) {
        float* to = out.data + first * out.stride + c;
        const int64_t width = std::min(kPanel, cols - c);
        if (width == kPanel) {
          kernel(tile, deep, panel, to, out.stride, more);
          continue;
        }
        for (int64_t r = 0; more && r < rows; ++r) std::copy_n(to + r * out.stride, width, edge + r * kPanel);
        kernel(tile, deep, panel, edge, kPanel, more);
        for (int64_t r = 0; r < rows; ++r) std::copy_n(edge + r * kPanel, width, to + r * out.stride);
      }
    }
  }
}

void multiply(const float* a, size_t n, int depth, const float* b, int cols, float* out) {
  std::vector<float> panels(size_t(packed_floats(depth, cols)));
  pack(b, cols, depth, cols, panels.data());
  multiply_packed({a, depth}, int64_t(n), depth, panels.data(), cols, {out, cols});
}

void multiply_transposed(const float* a, size_t n, int depth, const float* b, int cols, float* out) {
  std::vector<float> panels(size_t(packed_floats(depth, cols)));
  pack_transposed(b, depth, depth, cols, panels.data());
  multiply_packed({a, depth}, int64_t(n), depth, panels.data(), cols, {out, cols});
}

}  // namespace blockgtq
