// Turns the packed codes of one lane, which are 32, into operands of the tensor cores.
//
// Up to four bits a centroid is a byte, and the codes of half a word are four nibbles, which is just what the
// byte permutation takes as its selector. One instruction looks up four codes and leaves them as the 8-bit
// product wants them: 0.6 instructions per code at 3 bits, no shared memory, no bank conflicts. (Looking up
// fp16 centroids the same way takes four instructions: high bytes, low bytes, and two that join them. The
// permutation runs at half rate and then bounds the kernel.) Wider codes are looked up one by one, as fp16.
#pragma once
#include <cuda_fp16.h>

#include <cstdint>

#include "cache/page_layout.h"
#include "kernels/cache/packed_table.h"
#include "kernels/device/ptx.cuh"

namespace blockgtq::cuda {

__device__ inline __half2 as_half2(uint32_t x) {
  return *reinterpret_cast<const __half2*>(&x);
}
__device__ inline uint32_t pack2(float x, float y) {
  const __half2 h = __floats2half2_rn(x, y);
  return *reinterpret_cast<const uint32_t*>(&h);
}
__device__ inline uint32_t multiply2(uint32_t x, uint32_t y) {
  const __half2 h = __hmul2(as_half2(x), as_half2(y));
  return *reinterpret_cast<const uint32_t*>(&h);
}
__device__ inline float2 unpack2(uint32_t x) {
  return __half22float2(as_half2(x));
}

/// The units of a head, which follow its table.
__device__ inline const UnitEntry* units_of(const uint8_t* table) {
  return reinterpret_cast<const UnitEntry*>(table + sizeof(PackedTable));
}

using Bytes = uint32_t[4][2];     // (tile; row and the row 8 below): four centroids each
using Operands = uint32_t[4][4];  // (tile, register of the fp16 A operand)

/// Loads a lane's words of a unit. half: words have 16 bits, and their bytes are nibbles 0, 1 and 4, 5.
template <int kBits>
__device__ inline void load_words(uint32_t (&w)[kBits], const uint8_t* unit, int lane, bool half) {
  if (half) {
#pragma unroll
    for (int j = 0; j < kBits; ++j)
      w[j] = permute(reinterpret_cast<const uint16_t*>(unit + lane * 2 * kBits)[j], 0, 0x4140u);
  } else if constexpr (kBits % 4 == 0) {
#pragma unroll
    for (int j = 0; j < kBits; j += 4) {
      const uint4 x = reinterpret_cast<const uint4*>(unit + lane * 4 * kBits)[j / 4];
      w[j] = x.x, w[j + 1] = x.y, w[j + 2] = x.z, w[j + 3] = x.w;
    }
  } else if constexpr (kBits % 2 == 0) {
#pragma unroll
    for (int j = 0; j < kBits; j += 2) {
      const uint2 x = reinterpret_cast<const uint2*>(unit + lane * 4 * kBits)[j / 2];
      w[j] = x.x, w[j + 1] = x.y;
    }
  } else {
#pragma unroll
    for (int j = 0; j < kBits; ++j) w[j] = reinterpret_cast<const uint32_t*>(unit + lane * 4 * kBits)[j];
  }
}

/// Norms of positions 16 i + row (low half) and 16 i + 8 + row. From `valid` on they are zero, whatever is
/// there. The sign of a first norm says that the position keeps its mean (MeanRules).
__device__ inline void load_norms(uint32_t (&pair)[4], const uint8_t* norms, int row, int valid) {
  const uint4 n = reinterpret_cast<const uint4*>(norms)[row];
  pair[0] = n.x, pair[1] = n.y, pair[2] = n.z, pair[3] = n.w;
  if (valid < kPagePositions)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      pair[i] &= (16 * i + row < valid ? 0xffffu : 0u) | (16 * i + 8 + row < valid ? 0xffff0000u : 0u);
}

__device__ inline uint32_t without_signs(uint32_t norms) {
  return norms & 0x7fff7fffu;
}
/// Both norms of a pair.
__device__ inline float2 norms_of(uint32_t pair) {
  const float2 x = unpack2(pair);
  return {fabsf(x.x), fabsf(x.y)};
}
/// Whether the pair's second position, or its first one, keeps its mean.
__device__ inline bool keeps_mean(uint32_t pair, int second) {
  return pair & (second ? 0x80000000u : 0x8000u);
}

/// x[i], in registers even where i is not known at compile time.
template <int kCount>
__device__ inline uint32_t pick(const uint32_t* x, int i) {
  uint32_t y = x[0];
#pragma unroll
  for (int k = 1; k < kCount; ++k) y = i == k ? x[k] : y;
  return y;
}

/// The eight nibbles of tile i, of codes of 1 to 4 bits.
template <int kBits>
__device__ inline uint32_t nibbles(const uint32_t* w, int i) {
  if constexpr (kBits == 1) return (w[0] >> i) & 0x11111111u;
  if constexpr (kBits == 2) return (pick<2>(w, i / 2) >> (i % 2 * 2)) & 0x33333333u;
  if constexpr (kBits == 3) {
    if (i < 3) return pick<3>(w, i) & 0x77777777u;
    return ((w[0] >> 3) & 0x11111111u) | ((w[1] >> 2) & 0x22222222u) | ((w[2] >> 1) & 0x44444444u);
  }
  return pick<4>(w, i);
}

/// Centroids of up to kByteBits by stored code; see PackedTable.
using ByteBook = uint4;

/// Brings the nibbles of the upper half to the lower half. kBits: no nibble is larger than that. Bit
/// operations and permutations run at half rate and are what the kernels wait for. A product with one is not.
/// Nibbles below 8 never read as an fp16 that is infinite or NaN.
template <int kBits>
__device__ inline uint32_t upper(uint32_t select) {
  if constexpr (kBits < 4) return times_one_upper(select);
  return select >> 16;
}

/// Look up four bytes by the nibbles of the low half of `select`, and four by those of the high one.
/// look_up_first() takes the book's first eight bytes. look_up_last() takes the last eight, after the
/// nibbles' top bits are flipped. A nibble whose top bit is set gives eight copies of its byte's sign bit, 0
/// or -1, instead of the byte. So each of the two gives 0 or -1 for the other's codes, by the sign that
/// these codes have.
template <int kBits>
__device__ inline void look_up_first(const ByteBook& book, uint32_t select, uint32_t& low, uint32_t& high) {
  low = permute(book.x, book.y, select);
  high = permute(book.x, book.y, upper<kBits>(select));
}
__device__ inline void look_up_last(const ByteBook& book, uint32_t select, uint32_t& low, uint32_t& high) {
  const uint32_t turned = select ^ 0x88888888u;
  low = permute(book.z, book.w, turned);
  high = permute(book.z, book.w, turned >> 16);
}

/// The centroids of eight codes, the nibbles of `select`. At 4 bits the negative centroids among the book's
/// first eight are stored as complements, so that no byte there is negative. For their codes look_up_last()
/// gives -1, and the exclusive or with it restores them.
template <int kBits>
__device__ inline void look_up(const ByteBook& book, uint32_t select, uint32_t& low, uint32_t& high) {
  look_up_first<kBits>(book, select, low, high);
  if constexpr (kBits == 4) {
    uint32_t other[2];
    look_up_last(book, select, other[0], other[1]);
    low ^= other[0], high ^= other[1];
  }
}

template <int kBits>
__device__ inline void expand(const uint32_t (&w)[kBits], const ByteBook& book, Bytes& a) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    look_up<kBits>(book, nibbles<kBits>(w, i), a[i][0], a[i][1]);
  }
}

/// Four signed bytes as fp16, divided by 127.
__device__ inline void to_halves(uint32_t bytes, uint32_t& first, uint32_t& second) {
  // + 128; with 0x64 above it, this reads 1024 + 128 + byte as fp16
  const uint32_t raised = bytes ^ 0x80808080u;
  const uint32_t x = permute(raised, 0x64646464u, 0x4140u), y = permute(raised, 0x64646464u, 0x4342u);
  const __half2 offset = __float2half2_rn(-1152), scale = __float2half2_rn(1.0f / 127);
  const __half2 a = __hmul2(__hadd2(*reinterpret_cast<const __half2*>(&x), offset), scale);
  const __half2 b = __hmul2(__hadd2(*reinterpret_cast<const __half2*>(&y), offset), scale);
  first = *reinterpret_cast<const uint32_t*>(&a);
  second = *reinterpret_cast<const uint32_t*>(&b);
}

/// Decodes codes of any width to fp16 parts of the largest centroid.
template <int kBits>
__device__ inline void expand(const uint32_t (&w)[kBits], const uint8_t* book, Operands& a) {
  if constexpr (kBits <= 4) {
    Bytes bytes;
    expand<kBits>(w, *reinterpret_cast<const ByteBook*>(book), bytes);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      to_halves(bytes[i][0], a[i][0], a[i][2]);
      to_halves(bytes[i][1], a[i][1], a[i][3]);
    }
  } else {
    const uint16_t* centroid = reinterpret_cast<const uint16_t*>(book);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t low = w[i], high = nibbles<kBits - 4>(w + 4, i);
      const uint32_t even = (low & 0x0f0f0f0fu) | ((high & 0x0f0f0f0fu) << 4);
      const uint32_t odd = ((low >> 4) & 0x0f0f0f0fu) | (high & 0xf0f0f0f0u);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        a[i][j / 2 + j % 2 * 2] =
            centroid[(even >> (8 * j)) & 255] | uint32_t(centroid[(odd >> (8 * j)) & 255]) << 16;
    }
  }
}

template <int kBits>
__device__ inline void unpack_as(const uint8_t* unit, int lane, bool half, const uint8_t* book, Operands& a) {
  uint32_t w[kBits];
  load_words<kBits>(w, unit, lane, half);
  expand<kBits>(w, book, a);
}

/// Unpacks the unit of this lane, of at most 4 bits. It gives zeros where there is no unit. The lanes of a
/// warp may have different units, and do not diverge.
__device__ inline void unpack(const UnitEntry& e, const uint8_t* block, const uint8_t* table, int lane,
                              Bytes& a) {
  const uint8_t* unit = block + e.offset;
  const int bits = e.bits, size = e.half ? 1 : 2;  // log2 of a word's bytes
  uint32_t w[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int at = (lane * bits + j) << size;
    const uint32_t word = j < bits ? *reinterpret_cast<const uint32_t*>(unit + (at & ~3)) : 0;
    w[j] = permute(word, 0, e.half ? (at & 2 ? 0x4342u : 0x4140u) : 0x3210u);
  }
  const ByteBook book = *reinterpret_cast<const ByteBook*>(table + e.book);
  const uint32_t mask = 0x11111111u * ((1u << bits) - 1);
  const uint32_t spread = nibbles<3>(w, 3);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t from = bits >= 3 ? w[i] : bits == 2 ? w[i / 2] : w[0];
    const uint32_t shifted = from >> (bits == 1 ? i : bits == 2 ? i % 2 * 2 : 0);
    const uint32_t select = i == 3 && bits == 3 ? spread : shifted & mask;
    look_up<4>(book, select, a[i][0], a[i][1]);  // up to 3 bits the book's last eight bytes are zero
  }
}

/// The same for any width.
__device__ inline void unpack(const UnitEntry& e, const uint8_t* block, const uint8_t* table, int lane,
                              Operands& a) {
  const uint8_t *unit = block + e.offset, *book = table + e.book;
  switch (e.bits) {
    case 1:
      return unpack_as<1>(unit, lane, e.half, book, a);
    case 2:
      return unpack_as<2>(unit, lane, e.half, book, a);
    case 3:
      return unpack_as<3>(unit, lane, e.half, book, a);
    case 4:
      return unpack_as<4>(unit, lane, e.half, book, a);
    case 5:
      return unpack_as<5>(unit, lane, e.half, book, a);
    case 6:
      return unpack_as<6>(unit, lane, e.half, book, a);
    case 7:
      return unpack_as<7>(unit, lane, e.half, book, a);
    case 8:
      return unpack_as<8>(unit, lane, e.half, book, a);
    default:
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) a[i][j] = 0;
  }
}

}  // namespace blockgtq::cuda
