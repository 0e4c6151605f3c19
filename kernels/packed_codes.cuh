// Coordinates of 16 positions to codes, codes to words. Part of packed_encode.cu.
#pragma once
#include "packed_encode.h"
#include "unpack.cuh"

namespace blockgtq::cuda {

/// Codes of two coordinates, in the low bits of each half, from u = z / |z|. t: thresholds, fp16 twice.
template <int kBits>
__device__ inline uint32_t code_pair(uint32_t u, const uint32_t (&t)[7]) {
  const auto above = [&](int i) { return __hgt2_mask(__habs2(as_half2(u)), as_half2(t[i])); };
  constexpr uint32_t kOne = 0x00010001u;
  const uint32_t sign = (u >> (16 - kBits)) & (kOne << (kBits - 1));
  if constexpr (kBits == 1) return sign;
  if constexpr (kBits == 2) return sign | (above(0) & kOne);
  if constexpr (kBits == 3) {
    const uint32_t p1 = above(1), low = (above(0) & ~p1) | above(2);
    return sign | (low & kOne) | (p1 & (2 * kOne));
  }
  const uint32_t p1 = above(1), p3 = above(3), p5 = above(5);
  const uint32_t middle = (p1 & ~p3) | p5;
  const uint32_t low = (above(0) & ~p1) | (above(2) & ~p3) | (above(4) & ~p5) | above(6);
  return sign | (low & kOne) | (middle & (2 * kOne)) | (p3 & (4 * kOne));
}

/// The same for 5 to 8 bits, one coordinate.
template <int kBits>
__device__ inline uint32_t wide_code(float u, const float* thresholds) {
  const float size = fabsf(u);
  uint32_t m = 0;
#pragma unroll
  for (uint32_t step = 1u << (kBits - 2); step > 0; step >>= 1)
    m += size > thresholds[m + step - 1] ? step : 0;
  return m | (u < 0 ? 1u << (kBits - 1) : 0u);
}

/// Nibbles [0, 4) of the codes of one tile, in the order of the words.
__device__ inline uint32_t gather_nibbles(const uint32_t (&code)[4], int shift) {
  constexpr uint32_t kNibble = 0x000f000fu;
  const uint32_t x = ((code[0] >> shift) & kNibble) | ((code[2] >> shift) & kNibble) << 8;
  const uint32_t y = ((code[1] >> shift) & kNibble) | ((code[3] >> shift) & kNibble) << 8;
  return permute(x | x >> 12, y | y >> 12, 0x5410u);
}

/// 8 coordinates of a lane: y[j / 2][2 (j % 2) + e] belongs to register j of a tile of 16 positions, element
/// e. Positions of (j, e): keys 8 (j % 2) + r, values 8 (j / 2) + 2 c + e.
using Coordinates = float[2][4];

/// Which of a lane's positions of a tile (j, e) is: two for keys, four for values.
template <bool kKeys>
__device__ constexpr int slot(int j, int e) {
  return kKeys ? j % 2 : 2 * (j / 2) + e;
}
template <bool kKeys>
using PerPosition = float[kKeys ? 2 : 4];

/// Adds the squares of a tile's centroids, fp16 parts of the largest, by position. two: coordinates 2 and 3
/// of a quad are not there.
template <bool kKeys>
__device__ inline void add_squares(const uint32_t (&h)[4], bool two, float unit, PerPosition<kKeys>& of_c) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (two && j >= 2) continue;
    const float2 x = __half22float2(as_half2(h[j]));
    of_c[slot<kKeys>(j, 0)] = fmaf(x.x * x.x, unit, of_c[slot<kKeys>(j, 0)]);
    of_c[slot<kKeys>(j, 1)] = fmaf(x.y * x.y, unit, of_c[slot<kKeys>(j, 1)]);
  }
}

/// Codes of one tile as nibbles; from 5 bits on the upper nibbles too. inverse: 1 / |z| of the lane's
/// positions.
template <int kBits, bool kKeys>
__device__ __forceinline__ void encode_tile(const Coordinates& y, const PerPosition<kKeys>& inverse,
                                            const UnitEntry& e, const float* thresholds, const uint8_t* book,
                                            const EncodeGroup& group, uint32_t& low, uint32_t& high,
                                            PerPosition<kKeys>& of_c) {
  uint32_t t[7], code[4];
  if constexpr (kBits >= 2 && kBits <= 4)
#pragma unroll
    for (int i = 0; i < (1 << (kBits - 1)) - 1; ++i) t[i] = pack2(thresholds[i], thresholds[i]);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const float a = y[j / 2][2 * (j % 2)] * inverse[slot<kKeys>(j, 0)];
    const float b = y[j / 2][2 * (j % 2) + 1] * inverse[slot<kKeys>(j, 1)];
    if constexpr (kBits <= 4)
      code[j] = code_pair<kBits>(pack2(a, b), t);
    else
      code[j] = wide_code<kBits>(a, thresholds) | wide_code<kBits>(b, thresholds) << 16;
  }
  low = gather_nibbles(code, 0);
  if constexpr (kBits > 4) high = gather_nibbles(code, 4);

  const bool two = kKeys && e.half;  // coordinates 2 and 3 of the quad are not there
  const float unit = group.largest * group.largest;
  if constexpr (kBits <= 4) {
    const uint2 table = *reinterpret_cast<const uint2*>(book);
    const uint32_t c[2] = {look_up<kBits>(table, low), look_up<kBits>(table, low >> 16)};
    if (kKeys) {  // four coordinates of one position in a word
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const int x = int(two ? c[row] & 0xffffu : c[row]);
        of_c[row] = fmaf(float(__dp4a(x, x, 0)), unit * (1.0f / (127 * 127)), of_c[row]);
      }
      return;
    }
    uint32_t h[4];
    to_halves(c[0], h[0], h[2]);
    to_halves(c[1], h[1], h[3]);
    add_squares<kKeys>(h, two, unit, of_c);
  } else {
    const uint16_t* centroid = reinterpret_cast<const uint16_t*>(book);
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        if (two && j >= 2) continue;
        const float x = __half2float(__ushort_as_half(centroid[code[j] >> (16 * k) & 0xffffu]));
        of_c[slot<kKeys>(j, k)] = fmaf(x * x, unit, of_c[slot<kKeys>(j, k)]);
      }
  }
}

/// Nibbles of four tiles -> words (code_bit()). up: the upper ones of more than four bits.
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

/// A lane's words of a unit into shared memory.
template <int kBits>
__device__ inline void store_unit(const uint4& v, const uint4& up, uint8_t* unit, int lane, bool half) {
  uint32_t w[kBits];
  to_words<kBits>(v, up, w);
#pragma unroll
  for (int j = 0; j < kBits; ++j)
    if (half)  // nibbles 0, 1 and 4, 5
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

/// 16 positions of a head, as the operand of the product: register (row r or r + 8, depth low or high) of
/// every step.
template <int kSteps>
using Rows = uint32_t[kSteps][4];

/// One slab's coordinates of 16 positions. Two chains of sums each: the tensor cores' latency.
template <int kSteps, bool kKeys>
__device__ __forceinline__ void multiply(Coordinates& y, const Rows<kSteps>& x, const uint4* forward) {
  Coordinates odd;
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    const uint4 f = forward[32 * s];
    Coordinates& to = s % 2 ? odd : y;
    const auto add = [&](float(&d)[4], const uint32_t(&m)[4], uint32_t b0, uint32_t b1) {
      if (s < 2)
        mma_first(d, m, b0, b1);
      else
        mma(d, m, b0, b1);
    };
    if constexpr (kKeys) {
      add(to[0], x[s], f.x, f.y);
      add(to[1], x[s], f.z, f.w);
    } else {
      const uint32_t m[4] = {f.x, f.y, f.z, f.w};
      add(to[0], m, x[s][0], x[s][2]);
      add(to[1], m, x[s][1], x[s][3]);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) y[i][j] += odd[i][j];
}

/// The slabs of a side whose codes are all kBits wide (at most 4) with one norm: nothing to look up on the
/// way, and two slabs' chains of dependent instructions side by side. nibbles: this lane's of the first slab.
template <int kBits, bool kKeys, int kSteps>
__device__ __forceinline__ void encode_slabs(const Rows<kSteps>& x, const uint4* forward, int n_slabs,
                                             const float* thresholds, uint2 book, float largest,
                                             const PerPosition<kKeys>& inverse, uint32_t* nibbles,
                                             PerPosition<kKeys>& of_c) {
  uint32_t t[7];
#pragma unroll
  for (int i = 0; i < (1 << (kBits - 1)) - 1; ++i) t[i] = pack2(thresholds[i], thresholds[i]);
  int squares[2] = {};
#pragma unroll 2
  for (int slab = 0; slab < n_slabs; ++slab) {
    Coordinates y;
    multiply<kSteps, kKeys>(y, x, forward + slab * kSteps * 32);
    uint32_t code[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      code[j] = code_pair<kBits>(pack2(y[j / 2][2 * (j % 2)] * inverse[slot<kKeys>(j, 0)],
                                       y[j / 2][2 * (j % 2) + 1] * inverse[slot<kKeys>(j, 1)]),
                                 t);
    const uint32_t low = gather_nibbles(code, 0);
    nibbles[slab * 128] = low;
    const uint32_t c[2] = {look_up<kBits>(book, low), look_up<kBits>(book, low >> 16)};
    if constexpr (kKeys) {
#pragma unroll
      for (int row = 0; row < 2; ++row) squares[row] = __dp4a(int(c[row]), int(c[row]), squares[row]);
    } else {
      uint32_t h[4];
      to_halves(c[0], h[0], h[2]);
      to_halves(c[1], h[1], h[3]);
      add_squares<kKeys>(h, false, largest * largest, of_c);
    }
  }
  if constexpr (kKeys)
#pragma unroll
    for (int row = 0; row < 2; ++row) of_c[row] = float(squares[row]) * (largest * largest / (127 * 127));
}

}  // namespace blockgtq::cuda
