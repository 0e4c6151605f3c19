// From coordinates of 16 positions to codes, and from codes to words. Part of packed_encode.cu.
#pragma once
#include <type_traits>

#include "cache/page_layout.h"
#include "kernels/cache/packed_encode.h"
#include "kernels/cache/unpack.cuh"

namespace blockgtq::cuda {

/// Codes of two coordinates of u = z / |z|, in the top bits of each half. The bits below them are arbitrary.
/// t: the thresholds, each as fp16 in both halves.
template <int kBits>
__device__ inline uint32_t code_pair(uint32_t u, const uint32_t (&t)[7]) {
  const auto above = [&](uint32_t t) { return __hgt2_mask(__habs2(as_half2(u)), as_half2(t)); };
  constexpr uint32_t kTop = 0x80008000u;
  if constexpr (kBits == 1) return u;
  if constexpr (kBits == 2) return choose(kTop, u, above(t[0]));
  if constexpr (kBits == 3) {
    const uint32_t high = above(t[1]), low = above(choose(high, t[2], t[0]));
    return choose(kTop, u, choose(kTop >> 1, high, low));
  }
  const uint32_t high = above(t[3]), middle = above(choose(high, t[5], t[1])),
                 low = above(choose(high, choose(middle, t[6], t[4]), choose(middle, t[2], t[0])));
  return choose(kTop, high, choose(kTop >> 1, u >> 1, choose(kTop >> 2, middle, low)));
}

/// The code of one coordinate, of 5 to 8 bits.
template <int kBits>
__device__ inline uint32_t wide_code(float u, const float* thresholds) {
  const float size = fabsf(u);
  uint32_t m = 0;
#pragma unroll
  for (uint32_t step = 1u << (kBits - 2); step > 0; step >>= 1)
    m += size > thresholds[m + step - 1] ? step : 0;
  constexpr uint32_t kSign = 1u << sign_bit(kBits);
  return (m & (kSign - 1)) | (u < 0 ? kSign : 0u) | (m & ~(kSign - 1)) << 1;
}

/// One byte of each of a tile's eight codes: those of the even and those of the odd nibbles. selector: which
/// byte of each half.
struct CodeBytes {
  uint32_t even, odd;
};
__device__ inline CodeBytes gather_bytes(const uint32_t (&code)[4], uint32_t selector) {
  const uint32_t x = permute(code[0], code[2], selector), y = permute(code[1], code[3], selector);
  return {permute(x, y, 0x5410u), permute(x, y, 0x7632u)};
}

/// The codes that code_pair() gives for a tile, as nibbles in the order of the words.
template <int kBits>
__device__ inline uint32_t gather_nibbles(const uint32_t (&code)[4]) {
  constexpr uint32_t kMask = 0x01010101u * ((1u << kBits) - 1);
  const CodeBytes b = gather_bytes(code, 0x7351u);
  return ((b.even >> (8 - kBits)) & kMask) | ((b.odd >> (4 - kBits)) & (kMask << 4));
}

/// The codes that wide_code() gives for a tile: the lower nibbles and the upper ones.
__device__ inline uint2 gather_wide(const uint32_t (&code)[4]) {
  constexpr uint32_t kMask = 0x0f0f0f0fu;
  const CodeBytes b = gather_bytes(code, 0x6240u);
  return {(b.even & kMask) | ((b.odd << 4) & ~kMask), ((b.even >> 4) & kMask) | (b.odd & ~kMask)};
}

/// A lane's 8 coordinates of a tile of 16 positions: y[j / 2][2 (j % 2) + e] is element e of register j. Its
/// position is 8 (j % 2) + r for keys, and 8 (j / 2) + 2 c + e for values.
using Coordinates = float[2][4];
/// The same in fp16, with both elements in a word: y[j / 2][j % 2].
using Pairs = uint32_t[2][2];
__device__ inline void to_pairs(const Coordinates& y, Pairs& u) {
#pragma unroll
  for (int j = 0; j < 4; ++j) u[j / 2][j % 2] = pack2(y[j / 2][2 * (j % 2)], y[j / 2][2 * (j % 2) + 1]);
}

/// The index of the position of (j, e) among the lane's positions of a tile, two for keys and
/// four for values.
template <bool kKeys>
__device__ constexpr int slot(int j, int e) {
  return kKeys ? j % 2 : 2 * (j / 2) + e;
}
/// A number for each of the lane's positions of a tile.
template <bool kKeys>
using PerPosition = float[kKeys ? 2 : 4];

/// Sums of squares over a lane's coordinates, by position. Up to four bits they are integers, since
/// centroids are bytes and the largest is 127. Beyond that they are floats, and centroids count as parts of
/// the largest one.
template <int kBits, bool kKeys>
using Squares = std::conditional_t<(kBits > kByteBits), float, int>[kKeys ? 2 : 4];

/// Adds the squared centroids of a tile's nibbles. two: coordinates 2 and 3 of the quad do not exist.
template <int kBits, bool kKeys>
__device__ inline void add_squares(uint32_t nibbles, const ByteBook& book, bool two,
                                   int (&squares)[kKeys ? 2 : 4]) {
  uint32_t c[2];
  look_up<kBits>(book, nibbles, c[0], c[1]);
  if constexpr (kKeys) {  // a word is four coordinates of one position
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int x = int(two ? c[row] & 0xffffu : c[row]);
      squares[row] = __dp4a(x, x, squares[row]);
    }
  } else {  // a word is one coordinate of four positions
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t x = permute(c[0], c[1], i == 0 ? 0x5140u : 0x7362u);
      squares[2 * i] = __dp4a(int(x), int(x & 0xffffu), squares[2 * i]);
      squares[2 * i + 1] = __dp4a(int(x), int(x & 0xffff0000u), squares[2 * i + 1]);
    }
  }
}
/// The same for codes of more than four bits.
template <bool kKeys>
__device__ inline void add_squares(const uint32_t (&code)[4], const uint16_t* centroids, bool two,
                                   float (&squares)[kKeys ? 2 : 4]) {
#pragma unroll
  for (int j = 0; j < 4; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      if (two && j >= 2) continue;
      const float x = __half2float(__ushort_as_half(centroids[code[j] >> (16 * e) & 0xffffu]));
      squares[slot<kKeys>(j, e)] = fmaf(x, x, squares[slot<kKeys>(j, e)]);
    }
}

/// What the codes of one width need: thresholds and centroids.
template <int kBits>
struct Codebook {
  uint32_t t[7];  // thresholds, fp16 in both halves
  ByteBook bytes;
  __device__ Codebook(const float* thresholds, const uint8_t* book)
      : bytes(*reinterpret_cast<const ByteBook*>(book)) {
#pragma unroll
    for (int i = 0; i < (1 << (kBits - 1)) - 1; ++i) t[i] = pack2(thresholds[i], thresholds[i]);
  }
};
template <int kBits>
requires(kBits > kByteBits) struct Codebook<kBits> {
  const float* thresholds;
  const uint16_t* centroids;
  __device__ Codebook(const float* thresholds, const uint8_t* book)
      : thresholds(thresholds), centroids(reinterpret_cast<const uint16_t*>(book)) {}
};

/// Encodes a tile. Returns its codes as nibbles: the lower ones, and beyond four bits the upper ones.
template <int kBits, bool kKeys>
__device__ __forceinline__ uint2 encode_tile(const Pairs& u, const Codebook<kBits>& book, bool two,
                                             Squares<kBits, kKeys>& squares) {
  uint32_t code[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) code[j] = code_pair<kBits>(u[j / 2][j % 2], book.t);
  const uint32_t nibbles = gather_nibbles<kBits>(code);
  add_squares<kBits, kKeys>(nibbles, book.bytes, two, squares);
  return {nibbles, 0};
}
template <int kBits, bool kKeys>
__device__ __forceinline__ uint2 encode_tile(const Coordinates& u, const Codebook<kBits>& book, bool two,
                                             Squares<kBits, kKeys>& squares) {
  if constexpr (kBits <= kByteBits) {
    Pairs pairs;
    to_pairs(u, pairs);
    return encode_tile<kBits, kKeys>(pairs, book, two, squares);
  } else {
    uint32_t code[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      code[j] = wide_code<kBits>(u[j / 2][2 * (j % 2)], book.thresholds) |
                wide_code<kBits>(u[j / 2][2 * (j % 2) + 1], book.thresholds) << 16;
    add_squares<kKeys>(code, book.centroids, two, squares);
    return gather_wide(code);
  }
}

/// Adds the squares to |c|^2, by position.
template <int kBits, bool kKeys>
__device__ inline void add_scaled(const Squares<kBits, kKeys>& squares, float largest,
                                  PerPosition<kKeys>& of_c) {
  const float unit = largest * largest * (kBits > kByteBits ? 1.0f : 1.0f / (127 * 127));
#pragma unroll
  for (int i = 0; i < (kKeys ? 2 : 4); ++i) of_c[i] = fmaf(float(squares[i]), unit, of_c[i]);
}

/// Packs the nibbles of four tiles into words (code_bit()). up: the upper nibbles of more than four bits.
template <int kBits>
__device__ inline void to_words(const uint4& v, const uint4& up, uint32_t* w) {
  if constexpr (kBits > 4) {
    w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
    to_words<kBits - 4>(up, up, w + 4);
  } else if constexpr (kBits == 1) {
    w[0] = v.x | v.y << 1 | v.z << 2 | v.w << 3;
  } else if constexpr (kBits == 2) {
    w[0] = v.x | v.y << 2;
    w[1] = v.z | v.w << 2;
  } else if constexpr (kBits == 3) {
    w[0] = v.x | ((v.w << 3) & 0x88888888u);
    w[1] = v.y | ((v.w << 2) & 0x88888888u);
    w[2] = v.z | ((v.w << 1) & 0x88888888u);
  } else {
    w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
  }
}

/// Stores a lane's words of a unit in shared memory.
template <int kBits>
__device__ inline void store_unit(const uint4& v, const uint4& up, uint8_t* unit, int lane, bool half) {
  uint32_t w[kBits];
  to_words<kBits>(v, up, w);
#pragma unroll
  for (int j = 0; j < kBits; ++j)
    if (half)  // half a unit has nibbles 0, 1 and 4, 5
      reinterpret_cast<uint16_t*>(unit + lane * 2 * kBits)[j] = uint16_t(permute(w[j], 0, 0x4420u));
    else
      reinterpret_cast<uint32_t*>(unit + lane * 4 * kBits)[j] = w[j];
}
__device__ inline void store_unit(const UnitEntry& e, const uint4& v, const uint4& up, uint8_t* codes,
                                  int lane) {
  uint8_t* unit = codes + e.offset;
  switch (e.bits) {
    case 1:
      return store_unit<1>(v, up, unit, lane, e.half);
    case 2:
      return store_unit<2>(v, up, unit, lane, e.half);
    case 3:
      return store_unit<3>(v, up, unit, lane, e.half);
    case 4:
      return store_unit<4>(v, up, unit, lane, e.half);
    case 5:
      return store_unit<5>(v, up, unit, lane, e.half);
    case 6:
      return store_unit<6>(v, up, unit, lane, e.half);
    case 7:
      return store_unit<7>(v, up, unit, lane, e.half);
    case 8:
      return store_unit<8>(v, up, unit, lane, e.half);
  }
}

/// 16 positions of a head as an operand of the product, step by step: register j has row r + 8 (j % 2) and
/// the low or high depths (j / 2).
template <int kSteps>
using Rows = uint32_t[kSteps][4];

/// Tiles of 16 positions that are encoded side by side. A slab of F is read once for all of them, and their
/// chains of products hide each other's latency.
template <int kSteps>
inline constexpr int kTilesAtOnce = kSteps <= 8 ? 2 : 1;
template <int kSteps>
using TileRows = Rows<kSteps>[kTilesAtOnce<kSteps>];
template <int kSteps>
using TileCoordinates = Coordinates[kTilesAtOnce<kSteps>];
template <int kSteps>
using TilePairs = Pairs[kTilesAtOnce<kSteps>];

/// F of neighbouring slabs, step by step. A step is read kAhead steps before it is wanted, even beyond the
/// last slab, where shared memory holds something else.
constexpr int kAhead = 2;
struct ForwardStream {
  const uint4* from;  // this lane's part of (slab, step, 32)
  uint4 ahead[kAhead];
  __device__ explicit ForwardStream(const uint4* forward) : from(forward) {
#pragma unroll
    for (int s = 0; s < kAhead; ++s) ahead[s] = from[32 * s];
  }
};

/// y = the next slab's coordinates, in float32 (TileCoordinates) or fp16 (TilePairs).
template <int kSteps, bool kKeys, class Sums>
__device__ __forceinline__ void multiply(Sums (&y)[kTilesAtOnce<kSteps>], const TileRows<kSteps>& x,
                                         ForwardStream& forward) {
  static_assert(kSteps % kAhead == 0);
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    const uint4 f = forward.ahead[s % kAhead];
    const uint32_t m[4] = {f.x, f.y, f.z, f.w};
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int tile = 0; tile < kTilesAtOnce<kSteps>; ++tile) {
        auto& to = y[tile][half];
        const uint32_t(&rows)[4] = x[tile][s];
        const auto add = [&](const uint32_t(&a)[4], uint32_t b0, uint32_t b1) {
          if (s == 0)
            mma_first(to, a, b0, b1);
          else
            mma(to, a, b0, b1);
        };
        if constexpr (kKeys)
          add(rows, m[2 * half], m[2 * half + 1]);
        else
          add(m, rows[half], rows[2 + half]);
      }
    forward.ahead[s % kAhead] = forward.from[32 * (s + kAhead)];
  }
  forward.from += 32 * kSteps;
}

/// Multiplies coordinates by the factor of their position.
template <bool kKeys>
__device__ inline void scale_coordinates(Coordinates& y, const PerPosition<kKeys>& factor) {
#pragma unroll
  for (int j = 0; j < 4; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) y[j / 2][2 * (j % 2) + e] *= factor[slot<kKeys>(j, e)];
}

/// Encodes neighbouring slabs of one width. nibbles, upper: (slab, 4 tiles, 32 lanes), from this lane's of
/// the first slab and tile on. kScaled: coordinates are still to be multiplied by `scale`. Otherwise they are
/// so small that fp16 accumulators do, up to four bits.
template <int kBits, bool kKeys, bool kScaled, int kSteps>
__device__ __forceinline__ void encode_run(const TileRows<kSteps>& x, const uint4* forward, int count,
                                           const Codebook<kBits>& book, float largest,
                                           const PerPosition<kKeys> (&scale)[kTilesAtOnce<kSteps>],
                                           uint32_t* nibbles, uint32_t* upper,
                                           PerPosition<kKeys> (&of_c)[kTilesAtOnce<kSteps>]) {
  constexpr int kTiles = kTilesAtOnce<kSteps>;
  Squares<kBits, kKeys> squares[kTiles] = {};
  ForwardStream stream(forward);
#pragma unroll 1
  for (int slab = 0; slab < count; ++slab) {
    std::conditional_t<(kScaled || kBits > kByteBits), TileCoordinates<kSteps>, TilePairs<kSteps>> y;
    multiply<kSteps, kKeys>(y, x, stream);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if constexpr (kScaled) scale_coordinates<kKeys>(y[tile], scale[tile]);
      const uint2 codes = encode_tile<kBits, kKeys>(y[tile], book, false, squares[tile]);
      nibbles[slab * 128 + tile * 32] = codes.x;
      if constexpr (kBits > kByteBits) upper[slab * 128 + tile * 32] = codes.y;
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) add_scaled<kBits, kKeys>(squares[tile], largest, of_c[tile]);
}

}  // namespace blockgtq::cuda
