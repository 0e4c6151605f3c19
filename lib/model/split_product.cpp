#include "model/split_product.h"

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "base/processor.h"

namespace blockgtq {

namespace {

#define BLOCKGTQ_AMX [[gnu::target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512bf16")]]

constexpr int64_t kSide = 16;   // rows of a tile, columns of a tile of sums
constexpr int64_t kDepth = 32;  // depth of a product of two tiles
constexpr int kTerms = 3;       // each holds 8 bits of the significand, 24 in all
constexpr int64_t kDeep = 4;    // steps of kDepth at a time, so that their left side stays in the L1 cache
constexpr int64_t kRows = 2 * kSide;       // of the left side at a time; kPanel columns are two tiles as well
constexpr int64_t kStepLines = 2 * kSide;  // of one term of one step: two tiles
static_assert(kPanel == 2 * kSide);

std::atomic<bool> split_in_use = false;

int64_t steps(int64_t depth) {
  return (depth + kDepth - 1) / kDepth;
}

/// 32 numbers, or what remains of them.
struct Numbers {
  __m512 low, high;
};

/// Returns the next bf16 term of the numbers, the nearest one. x keeps the exact rest.
BLOCKGTQ_AMX inline __m512i take_term(Numbers& x) {
  const auto term = __m512i(_mm512_cvtne2ps_pbh(x.high, x.low));
  const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(term)),
                high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(term, 1));
  x.low = _mm512_sub_ps(x.low, _mm512_castsi512_ps(_mm512_slli_epi32(low, 16)));
  x.high = _mm512_sub_ps(x.high, _mm512_castsi512_ps(_mm512_slli_epi32(high, 16)));
  return term;
}

BLOCKGTQ_AMX inline Numbers zeros() {
  return {_mm512_setzero_ps(), _mm512_setzero_ps()};
}

__mmask16 first_lanes(int64_t n) {
  return __mmask16(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
}
/// The first `count` of 32 numbers, then zeros.
BLOCKGTQ_AMX inline Numbers load(const float* x, int64_t count) {
  return {_mm512_maskz_loadu_ps(first_lanes(count), x),
          _mm512_maskz_loadu_ps(first_lanes(count - 16), x + 16)};
}

/// Transposes 16 rows of 16 pairs of halves: rows[i] becomes the i-th pairs of all rows.
BLOCKGTQ_AMX void transpose_pairs(__m512i* rows) {
  __m512i x[16];
  for (int i = 0; i < 16; i += 2) {
    x[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    x[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  __m512i y[16];  // y[4 g + j]: rows 4 g to 4 g + 3 of pairs j, 4 + j, 8 + j and 12 + j
  for (int g = 0; g < 16; g += 4) {
    y[g] = _mm512_unpacklo_epi64(x[g], x[g + 2]);
    y[g + 1] = _mm512_unpackhi_epi64(x[g], x[g + 2]);
    y[g + 2] = _mm512_unpacklo_epi64(x[g + 1], x[g + 3]);
    y[g + 3] = _mm512_unpackhi_epi64(x[g + 1], x[g + 3]);
  }
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(y[j], y[4 + j], 0x88),
                  b = _mm512_shuffle_i32x4(y[j], y[4 + j], 0xdd),
                  c = _mm512_shuffle_i32x4(y[8 + j], y[12 + j], 0x88),
                  d = _mm512_shuffle_i32x4(y[8 + j], y[12 + j], 0xdd);
    rows[j] = _mm512_shuffle_i32x4(a, c, 0x88);
    rows[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
    rows[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
    rows[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
}

/// Collects the bits of both.
BLOCKGTQ_AMX inline __m512i any_bits(__m512i bits, const Numbers& x) {
  return _mm512_or_si512(bits, _mm512_or_si512(_mm512_castps_si512(x.low), _mm512_castps_si512(x.high)));
}

/// How many bf16 terms the numbers need.
BLOCKGTQ_AMX int count_terms(const float* b, int64_t stride, int64_t depth, int64_t cols) {
  __m512i after_one = _mm512_setzero_si512(), after_two = after_one;
  for (int64_t j = 0; j < cols; ++j)
    for (int64_t k = 0; k < depth; k += kDepth) {
      Numbers x = load(b + j * stride + k, depth - k);
      take_term(x);
      after_one = any_bits(after_one, x);
      take_term(x);
      after_two = any_bits(after_two, x);
    }
  return _mm512_test_epi32_mask(after_two, after_two)   ? 3
         : _mm512_test_epi32_mask(after_one, after_one) ? 2
                                                        : 1;
}

/// Splits `count` rows of the left side, steps `first` to `last` of their depth, to (step, term, two tiles).
BLOCKGTQ_AMX void split_rows(Rows<const float> a, int64_t count, int64_t depth, int64_t first, int64_t last,
                             SplitLine* to) {
  for (int64_t s = first; s < last; ++s)
    for (int64_t r = 0; r < kRows; ++r) {
      Numbers x = r < count ? load(a.data + r * a.stride + s * kDepth, depth - s * kDepth) : zeros();
      for (int t = 0; t < kTerms; ++t)
        _mm512_store_si512(to + ((s - first) * kTerms + t) * kStepLines + r, take_term(x));
    }
}

/// Multiplies steps. Tiles 0 to 3 are sums (rows 0-15 and 16-31 times columns 0-15 and 16-31), 4 and 5 the
/// left side, 6 and 7 the right side. With `add` the sums continue from what out (kRows, kPanel) holds.
template <int kRightTerms>
BLOCKGTQ_AMX void multiply_steps(const SplitLine* left, const SplitLine* right, int64_t n_steps, float* out,
                                 int64_t out_stride, bool add) {
  // GCC does not know that tile loads read memory.
  asm volatile("" : : "r"(left), "r"(right), "r"(out) : "memory");
  const int64_t stride = out_stride * int64_t(sizeof(float));
  float* const below = out + kSide * out_stride;
  if (add) {
    _tile_loadd(0, out, stride);
    _tile_loadd(1, out + kSide, stride);
    _tile_loadd(2, below, stride);
    _tile_loadd(3, below + kSide, stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t s = 0; s < n_steps; ++s, left += kTerms * kStepLines, right += kRightTerms * kStepLines)
    for (int i = 0; i < kTerms; ++i) {
      _tile_loadd(4, left + i * kStepLines, sizeof(SplitLine));
      _tile_loadd(5, left + i * kStepLines + kSide, sizeof(SplitLine));
      for (int j = 0; j < kRightTerms && i + j < kTerms;
           ++j) {  // the omitted products are below 2^-24 of the whole
        if (kRightTerms > 1 || i == 0) {
          _tile_loadd(6, right + j * kStepLines, sizeof(SplitLine));
          _tile_loadd(7, right + j * kStepLines + kSide, sizeof(SplitLine));
        }
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
    }
  _tile_stored(0, out, stride);
  _tile_stored(1, out + kSide, stride);
  _tile_stored(2, below, stride);
  _tile_stored(3, below + kSide, stride);
}

void multiply_terms(int terms, const SplitLine* left, const SplitLine* right, int64_t n_steps, float* out,
                    int64_t out_stride, bool add) {
  (terms == 1   ? multiply_steps<1>
   : terms == 2 ? multiply_steps<2>
                : multiply_steps<3>)(left, right, n_steps, out, out_stride, add);
}

/// What LDTILECFG reads: eight tiles of 16 rows of 64 bytes.
struct TileConfig {
  uint8_t palette = 1, start = 0, unused[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {kSide, kSide, kSide, kSide, kSide, kSide, kSide, kSide};
};
static_assert(sizeof(TileConfig) == 64 && sizeof(SplitLine) == 64);

BLOCKGTQ_AMX void configure_tiles() {
  // Constant data: GCC 12 takes the instruction to read eight bytes, and would leave the rest of a local
  // unwritten.
  static constexpr TileConfig config;
  _tile_loadconfig(&config);
}

BLOCKGTQ_AMX void release_tiles() {
  _tile_release();
}

}  // namespace

bool has_split_products() {
  static const bool has = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;      // of leaf 7's edx
    constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM of arch_prctl(2)
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kBf16) && (d & kTile) && has_avx512() &&
           syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return has;
}

void use_split_products(bool use) {
  check(!use || has_split_products(), "split products where there is no AMX");
  split_in_use = use;
}

bool uses_split_products() {
  return split_in_use;
}

int64_t split_panel_lines(int64_t depth) {
  return steps(depth) * kTerms * kStepLines;
}

BLOCKGTQ_AMX int split_panel(const float* b, int64_t stride, int64_t depth, int64_t cols, SplitLine* panel) {
  const int terms = count_terms(b, stride, depth, cols);
  for (int64_t s = 0; s < steps(depth); ++s)
    for (int64_t tile = 0; tile < 2; ++tile) {
      Numbers x[kSide];
      for (int64_t j = 0; j < kSide; ++j)
        x[j] = tile * kSide + j < cols
                   ? load(b + (tile * kSide + j) * stride + s * kDepth, depth - s * kDepth)
                   : zeros();
      for (int t = 0; t < terms; ++t) {
        __m512i pairs[kSide];
        for (int64_t j = 0; j < kSide; ++j) pairs[j] = take_term(x[j]);
        transpose_pairs(pairs);
        SplitLine* const to = panel + (s * terms + t) * kStepLines + tile * kSide;
        for (int64_t j = 0; j < kSide; ++j) _mm512_store_si512(to + j, pairs[j]);
      }
    }
  return terms;
}

void split_multiply(Rows<const float> a, int64_t n, int64_t depth, const SplitLine* panels, const int* terms,
                    int64_t cols, Rows<float> out) {
  const int64_t n_steps = steps(depth), panel_lines = split_panel_lines(depth);
  SplitLine left[kDeep * kTerms * kStepLines];
  alignas(64) float edge[kRows * kPanel] = {};
  configure_tiles();
  for (int64_t row = 0; row < n; row += kRows)
    for (int64_t first = 0; first < n_steps; first += kDeep) {
      const int64_t count = std::min(kRows, n - row), deep = std::min(kDeep, n_steps - first);
      split_rows({a.data + row * a.stride, a.stride}, count, depth, first, first + deep, left);
      const bool add = first > 0;
      for (int64_t col = 0, p = 0; col < cols; col += kPanel, ++p) {
        const SplitLine* const right = panels + p * panel_lines + first * terms[p] * kStepLines;
        float* const to = out.data + row * out.stride + col;
        const int64_t width = std::min(kPanel, cols - col);
        if (count == kRows && width == kPanel) {
          multiply_terms(terms[p], left, right, deep, to, out.stride, add);
          continue;
        }
        for (int64_t r = 0; add && r < count; ++r) std::copy_n(to + r * out.stride, width, edge + r * kPanel);
        multiply_terms(terms[p], left, right, deep, edge, kPanel, add);
        for (int64_t r = 0; r < count; ++r) std::copy_n(edge + r * kPanel, width, to + r * out.stride);
      }
    }
  release_tiles();
}

}  // namespace blockgtq
