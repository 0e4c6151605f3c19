// Products of prepared queries with packed keys: S^T (positions, heads). Part of packed_attention.cu.
#pragma once
#include <cmath>
#include <type_traits>

#include "packed_queries.cuh"
#include "splits.cuh"

namespace blockgtq::cuda {

constexpr int kZero = 0x4b400000;         // an integer sum's start, as float32 ...
using Zero = int[4];                      // ... of a whole product, kept in registers
constexpr float kZeroRead = 12582912.0f;  // kZero as float32
constexpr float kByteOne = 127;           // of centroids

/// Scores of kParts tiles of 16 positions of a page, from tile `part` on: positions 16 i + r (first two) and
/// 16 i + 8 + r.
template <int kTiles, int kParts>
using Scores = float[kTiles][kParts][4];
template <int kTiles, int kParts>
using Sums = int[kTiles][kParts][4];

/// A slab's keys times a norm of their own per position: where there is a norm per group.
__device__ inline void scale_rows(Operands& a, const uint32_t (&pair)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = permute(pair[i], pair[i], 0x1010u), high = permute(pair[i], pair[i], 0x3232u);
#pragma unroll
    for (int j = 0; j < 4; ++j) a[i][j] = multiply2(a[i][j], j % 2 ? high : low);
  }
}

/// Integer sums back to their start.
template <int kTiles, int kParts>
__device__ inline void reset(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low, const Zero& zero) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) high[tile][i][j] = low[tile][i][j] = zero[j];
}

/// s += sums times the positions' norms (pair; null: one) and what one is of the longest row. kFirst: s =.
template <int kTiles, int kParts, bool kFirst = false>
__device__ inline void take_sums(Scores<kTiles, kParts>& s, const Sums<kTiles, kParts>& high,
                                 const Sums<kTiles, kParts>& low, const uint32_t* pair, float longest_row,
                                 int part) {
  const float one = longest_row * (1 / (kQuerySteps * kByteOne));
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const float2 x = pair ? unpack2(pick<4>(pair, part + i)) : make_float2(1, 1);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float sum =
            fmaf(__int_as_float(high[tile][i][j]) - kZeroRead, 256.0f, __int_as_float(low[tile][i][j]));
        const float unit = (j < 2 ? x.x : x.y) * one;
        s[tile][i][j] = fmaf(sum, unit, kFirst ? -kZeroRead * unit : fmaf(-kZeroRead, unit, s[tile][i][j]));
      }
  }
}

template <int kTiles, int kParts>
__device__ inline void multiply_norms(Scores<kTiles, kParts>& s, const uint32_t (&pair)[4], int part) {
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const float2 x = unpack2(pick<4>(pair, part + i));
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) s[tile][i][j] *= j < 2 ? x.x : x.y;
  }
}

/// The words of a pair: two slabs, or (kSecond 0) one of four bits.
template <int kFirst, int kSecond>
struct PairWords {
  uint32_t first[kFirst], second[kSecond > 0 ? kSecond : 1];
};

/// Tile i of a pair as the A operand. books: of both slabs.
template <int kFirst, int kSecond>
__device__ inline void expand_pair(const PairWords<kFirst, kSecond>& w, const uint4& books, int i,
                                   uint32_t (&a)[4]) {
  const uint2 book = {books.x, books.y};
  if constexpr (kSecond > 0) {
    look_up<kFirst>(book, nibbles<kFirst>(w.first, i), a[0], a[1]);
    look_up<kSecond>(make_uint2(books.z, books.w), nibbles<kSecond>(w.second, i), a[2], a[3]);
  } else {
    const uint32_t codes = nibbles<kFirst>(w.first, i);
    look_up_positive(book, codes, a[0], a[1]);
    look_up_positive(book, codes ^ 0x88888888u, a[2], a[3]);
  }
}

/// Codes of a pair times its queries, added to the sums. kStart: the sums begin here.
template <int kTiles, int kParts, bool kStart, int kFirst, int kSecond>
__device__ inline void add_pair(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low,
                                const PairWords<kFirst, kSecond>& w, const uint4& books, const uint4* queries,
                                int part, const Zero& zero) {
  uint4 q[kTiles];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) q[tile] = queries[tile * 32];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    uint32_t a[4];
    expand_pair(w, books, part + i, a);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
      if constexpr (kStart) {
        mma_first<false>(high[tile][i], a, q[tile].x, q[tile].y, zero);
        mma_first<false>(low[tile][i], a, q[tile].z, q[tile].w, zero);
      } else {
        mma<false>(high[tile][i], a, q[tile].x, q[tile].y);
        mma<false>(low[tile][i], a, q[tile].z, q[tile].w);
      }
  }
}

/// Pair number `index` of a run, added to the sums.
template <int kTiles, int kParts, bool kStart, int kBits>
__device__ inline void add_of_run(Sums<kTiles, kParts>& high, Sums<kTiles, kParts>& low, const uint8_t* run,
                                  int index, int unit_lane, const uint4& books, const uint4* queries,
                                  int part, const Zero& zero) {
  constexpr bool kAlone = kBits > 3;
  constexpr int kSlab = 128 * kBits;  // bytes
  const uint8_t* const codes = run + index * (kAlone ? 1 : 2) * kSlab;
  PairWords<kBits, kAlone ? 0 : kBits> w;
  load_words<kBits>(w.first, codes, unit_lane, false);
  if constexpr (!kAlone) load_words<kBits>(w.second, codes + kSlab, unit_lane, false);
  add_pair<kTiles, kParts, kStart>(high, low, w, books, queries, part, zero);
}

/// s = keys . prepared queries, all coordinates of kBits.
template <int kDim, int kTiles, int kParts, int kBits>
__device__ void score_uniform(Scores<kTiles, kParts>& s, const uint8_t* block, const uint8_t* shared,
                              const PackedTable& t, const Queries& queries, int part, int valid,
                              const Zero& zero) {
  const int lane = threadIdx.x % 32, unit_lane = 8 * (lane % 4) + lane / 4;
  Sums<kTiles, kParts> high, low;
  const uint2 book = *reinterpret_cast<const uint2*>(shared + units_of(shared)->book);
  const uint4 books = {book.x, book.y, book.x, book.y};
  const auto add = [&](auto start, int pair) {
    add_of_run<kTiles, kParts, start.value, kBits>(high, low, block, pair, unit_lane, books,
                                                   queries.fixed + pair * kTiles * 32 + lane, part, zero);
  };
  add(std::true_type(), 0);
#pragma unroll
  for (int pair = 1; pair < kDim / (kBits > 3 ? 16 : 32); ++pair) add(std::false_type(), pair);
  uint32_t norms[4];
  load_norms(norms, block + t.key_norms, lane / 4, valid);
  take_sums<kTiles, kParts, true>(s, high, low, norms, 1, part);
}

template <int kBits>
using Width = std::integral_constant<int, kBits>;

/// f(the widths of a pair as types), see SlabPair.
template <class F>
__device__ inline void with_widths(int widths, F f) {
  switch (widths) {
    case 4 * 1 + 1:
      return f(Width<1>(), Width<1>());
    case 4 * 2 + 1:
      return f(Width<1>(), Width<2>());
    case 4 * 3 + 1:
      return f(Width<1>(), Width<3>());
    case 4 * 2 + 2:
      return f(Width<2>(), Width<2>());
    case 4 * 3 + 2:
      return f(Width<2>(), Width<3>());
    case 4 * 3 + 3:
      return f(Width<3>(), Width<3>());
    default:
      return f(Width<4>(), Width<0>());
  }
}

/// A lane's words, which may be 16-bit ones: then `at` is odd. What is in the upper halves of their halves
/// meets no query.
template <int kBits>
__device__ inline void load_any(uint32_t (&w)[kBits], const uint8_t* block, uint32_t at) {
  const uint32_t* const from = reinterpret_cast<const uint32_t*>(block + (at & ~3u));
  uint32_t x[kBits];
#pragma unroll
  for (int j = 0; j < kBits; ++j) x[j] = from[j];
  // Sixteen bits behind each other, from the first word's lower or upper half on.
  const bool narrow = at & 1, upper = at & 2;
  const uint32_t first = narrow ? (upper ? 0x3322u : 0x1100u) : 0x3210u;
  const uint32_t crossing = narrow ? (upper ? 0x5544u : 0x3322u) : 0x7654u;
  w[0] = permute(x[0], 0, first);
  if constexpr (kBits > 1) w[1] = permute(x[0], x[1], crossing);
  if constexpr (kBits > 2) w[2] = permute(x[1], x[2], narrow ? first : 0x7654u);
  if constexpr (kBits > 3) w[3] = narrow ? permute(x[1], x[2], crossing) : x[3];
}

/// This lane's words of a pair, see PackedTable: lanes. half: some lane's are 16-bit words.
template <int kFirst, int kSecond>
__device__ inline void load_pair(PairWords<kFirst, kSecond>& w, const uint8_t* block, uint2 at, bool half) {
  if (half) {
    load_any<kFirst>(w.first, block, at.x);
    if constexpr (kSecond > 0) load_any<kSecond>(w.second, block, at.y);
  } else {
    load_words<kFirst>(w.first, block + at.x, 0, false);
    if constexpr (kSecond > 0) load_words<kSecond>(w.second, block + at.y, 0, false);
  }
}

/// f(a width of up to kByteBits as a type).
template <class F>
__device__ inline void with_width(int bits, F f) {
  switch (bits) {
    case 1:
      return f(Width<1>());
    case 2:
      return f(Width<2>());
    case 3:
      return f(Width<3>());
    default:
      return f(Width<4>());
  }
}

/// s = keys . prepared queries, as the table says. kOneNorm: one per key, no codes of more than four bits,
/// and there are runs.
template <int kTiles, int kParts, bool kOneNorm>
__device__ void score_keys(Scores<kTiles, kParts>& s, const uint8_t* block, const uint8_t* shared,
                           const PackedTable& t, const Queries& queries, int part, int valid,
                           const Zero& zero) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4, unit_lane = 8 * c + r;
  const SlabRun* const runs = reinterpret_cast<const SlabRun*>(shared + t.runs);
  const SlabPair* const pairs = reinterpret_cast<const SlabPair*>(shared + t.pairs);
  const uint2* const lanes = reinterpret_cast<const uint2*>(shared + t.lanes) + lane;
  const uint4* q = queries.fixed + lane;
  Sums<kTiles, kParts> high, low;
  uint32_t norms[4];
  const int n_runs = t.n_runs, n_others = t.n_pairs - t.run_pairs;
  const auto books_of = [&](const SlabRun& run) {
    const uint2 x = *reinterpret_cast<const uint2*>(run.books + lane % 2 * 2);  // see add_values()
    return make_uint4(x.x, x.y, x.x, x.y);
  };
  int done = 0;  // pairs of the next run
  if constexpr (kOneNorm) {
    const SlabRun& run = runs[0];
    with_width(run.bits, [&](auto bits) {
      add_of_run<kTiles, kParts, true, bits.value>(high, low, block + run.offset, 0, unit_lane, books_of(run),
                                                   q, part, zero);
    });
    done = 1, q += kTiles * 32;
  } else {
    reset<kTiles, kParts>(high, low, zero);
  }
#pragma unroll 1
  for (int i = 0; i < n_runs; ++i) {
    const SlabRun& run = runs[i];
    const int n_pairs = run.n_pairs;
    with_width(run.bits, [&](auto bits) {
#pragma unroll 1
      for (int k = done; k < n_pairs; ++k, q += kTiles * 32)
        add_of_run<kTiles, kParts, false, bits.value>(high, low, block + run.offset, k, unit_lane,
                                                      books_of(run), q, part, zero);
    });
    done = 0;
  }
  const bool norms_last = t.wide_keys && !t.group_norms;
#pragma unroll 1
  for (int i = 0; i < n_others; ++i, q += kTiles * 32) {
    const SlabPair& pair = pairs[i];
    const uint2 at = lanes[32 * i];
    const uint4 books = *reinterpret_cast<const uint4*>(pair.books[lane % 2]);
    with_widths(pair.widths, [&](auto first, auto second) {
      PairWords<first.value, second.value> w;
      load_pair(w, block, at, pair.half);
      add_pair<kTiles, kParts, false>(high, low, w, books, q, part, zero);
    });
    if (kOneNorm || !t.group_norms || pair.norms < 0) continue;
    load_norms(norms, block + pair.norms, r, valid);
    take_sums<kTiles, kParts>(s, high, low, norms, pair.longest_row, part);
    reset<kTiles, kParts>(high, low, zero);
  }
  if (kOneNorm || !norms_last) load_norms(norms, block + t.key_norms, r, valid);
  if constexpr (kOneNorm) {
    take_sums<kTiles, kParts, true>(s, high, low, norms, 1, part);
    return;
  }
  if (!t.group_norms) take_sums<kTiles, kParts>(s, high, low, norms_last ? nullptr : norms, 1, part);
  for (uint32_t wide = t.wide_keys; wide; wide &= wide - 1) {
    const int slab = __ffs(int(wide)) - 1;
    const UnitEntry e = units_of(shared)[4 * slab + c];
    Operands a;
    unpack(e, block, shared, r, a);
    if (t.group_norms) {
      load_norms(norms, block + t.key_norms + 2 * kPagePositions * e.norm, r, valid);
      scale_rows(a, norms);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 b = queries.wide[(slab * kTiles + tile) * 32 + lane];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (kParts == 4 || i / kParts == part / kParts) mma(s[tile][i % kParts], a[i], b.x, b.y);
    }
  }
  if (norms_last) {
    load_norms(norms, block + t.key_norms, r, valid);
    multiply_norms<kTiles, kParts>(s, norms, part);
  }
}

/// s += (R_-t0 q) . R_j mean in units of |q| query_scale. angles (D / 2, 2): cos and sin of t0 theta.
template <int kDim, int kTiles, int kParts>
__device__ void score_mean(Scores<kTiles, kParts>& s, const float4* angles, const Queries& queries,
                           const uint4* mean, float query_scale, int part) {
  const int lane = threadIdx.x % 32, c = lane % 4;
  const float unit = 1 / query_scale;
#pragma unroll 2
  for (int slab = 0; slab < kDim / 16; ++slab) {
    const float4 turn = angles[4 * slab + c];
    uint32_t b[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 q = queries.plain[(slab * kTiles + tile) * 32 + lane];
      const float2 x = unpack2(q.x), y = unpack2(q.y);
      const float inverse = queries.lengths[2 * (8 * tile + lane / 4) + 1] * unit;
      b[tile][0] = pack2((x.x * turn.x + x.y * turn.y) * inverse, (x.y * turn.x - x.x * turn.y) * inverse);
      b[tile][1] = pack2((y.x * turn.z + y.y * turn.w) * inverse, (y.y * turn.z - y.x * turn.w) * inverse);
    }
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const uint4 m = mean[((part + i) * (kDim / 16) + slab) * 32 + lane];
      const uint32_t a[4] = {m.x, m.y, m.z, m.w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) mma(s[tile][i], a, b[tile][0], b[tile][1]);
    }
  }
}

/// Positions from `valid` on get no weight.
template <int kTiles, int kParts>
__device__ inline void mask(Scores<kTiles, kParts>& s, int part, int valid) {
  const int r = threadIdx.x % 32 / 4;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        if (16 * (part + i) + 8 * (j / 2) + r >= valid) s[tile][i][j] = -INFINITY;
}

}  // namespace blockgtq::cuda
