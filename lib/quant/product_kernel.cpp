#include "quant/product_kernel.h"

#include <immintrin.h>

#include <utility>

#include "base/processor.h"
#include "quant/product.h"

namespace blockgtq {

namespace {

template <int R>
void avx2(const float* a, int64_t depth, const float* panel, float* out, int64_t out_stride, bool add) {
  for (int half = 0; half < 2; ++half, panel += kPanel / 2, out += kPanel / 2) {
    __m256 acc[R][2];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      acc[r][0] = add ? _mm256_loadu_ps(out + r * out_stride) : _mm256_setzero_ps();
      acc[r][1] = add ? _mm256_loadu_ps(out + r * out_stride + 8) : _mm256_setzero_ps();
    }
    for (int64_t k = 0; k < depth; ++k) {
      const __m256 left = _mm256_loadu_ps(panel + k * kPanel),
                   right = _mm256_loadu_ps(panel + k * kPanel + 8);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m256 x = _mm256_set1_ps(a[r * kTileStride + k]);
        acc[r][0] = _mm256_fmadd_ps(x, left, acc[r][0]);
        acc[r][1] = _mm256_fmadd_ps(x, right, acc[r][1]);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      _mm256_storeu_ps(out + r * out_stride, acc[r][0]);
      _mm256_storeu_ps(out + r * out_stride + 8, acc[r][1]);
    }
  }
}

template <int R>
BLOCKGTQ_AVX512 void avx512(const float* a, int64_t depth, const float* panel, float* out, int64_t out_stride,
                            bool add) {
  __m512 acc[R][2];
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r) {
    acc[r][0] = add ? _mm512_loadu_ps(out + r * out_stride) : _mm512_setzero_ps();
    acc[r][1] = add ? _mm512_loadu_ps(out + r * out_stride + 16) : _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < depth; ++k) {
    const __m512 left = _mm512_loadu_ps(panel + k * kPanel), right = _mm512_loadu_ps(panel + k * kPanel + 16);
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) {
      const __m512 x = _mm512_set1_ps(a[r * kTileStride + k]);
      acc[r][0] = _mm512_fmadd_ps(x, left, acc[r][0]);
      acc[r][1] = _mm512_fmadd_ps(x, right, acc[r][1]);
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r) {
    _mm512_storeu_ps(out + r * out_stride, acc[r][0]);
    _mm512_storeu_ps(out + r * out_stride + 16, acc[r][1]);
  }
}

template <size_t... I>
ProductKernel avx2_calls(std::index_sequence<I...>) {
  return {int(sizeof...(I)), {avx2<int(I) + 1>...}};
}
template <size_t... I>
ProductKernel avx512_calls(std::index_sequence<I...>) {
  return {int(sizeof...(I)), {avx512<int(I) + 1>...}};
}

}  // namespace

const ProductKernel& avx2_kernel() {
  static const ProductKernel kernel = avx2_calls(std::make_index_sequence<6>());
  return kernel;
}

const ProductKernel& avx512_kernel() {
  static const ProductKernel kernel = avx512_calls(std::make_index_sequence<kMostTileRows>());
  return kernel;
}

const ProductKernel& product_kernel() {
  static const ProductKernel& chosen = has_avx512() ? avx512_kernel() : avx2_kernel();
  return chosen;
}

}  // namespace blockgtq
