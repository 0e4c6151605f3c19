// Pages of packed codes as tiles of fp16 operands in shared memory. Part of packed_prefill.cu.
//
// A tile holds 64 positions in the order in which the lanes of a warp hold operands: (slab, i, lane), 16
// bytes each, which are the B operands of two products mma.m16n8k16. No transposition, no bank conflicts:
//
//   keys    S (rows, positions) += Q (rows, places) K^T: words x and z are positions 16 i + r, places 2 c and
//           8 + 2 c (and the next) of the slab; words y and w positions 16 i + 8 + r
//   values  O (rows, places) += P (rows, positions) V: words x and z are place r, positions 16 i + 2 c and
//           16 i + 8 + 2 c (and the next); words y and w place 8 + r
//
// This is how a lane holds the A operand of K (or of V^T), which is how codes lie in a page
// (cache/page_layout.h): a lane unpacks a unit and stores what it has.
//
// Entries are norm times centroid, rounded once. Keys with one norm and no mean are centroids alone, which is
// exact, and scores take the norms (expand_norms()): a norm's few products with centroids are all that a key
// has, and their roundings do not average. A centroid that is a byte counts 1 / 128 here, which is exact too;
// kByteUnit makes up for it where queries are prepared and outputs turned back.
#pragma once
#include "cache/page_layout.h"
#include "kernels/cache/unpack.cuh"

namespace blockgtq::cuda {

constexpr float kByteUnit = 128.0f / 127;

/// What an entry of 1 stands for, as a part of the unit's largest centroid.
__device__ inline float unit_of(const UnitEntry& e) {
  return e.bits > kByteBits ? 1.0f : kByteUnit;
}

/// Four signed bytes as fp16, divided by 128: exact.
__device__ inline void to_parts(uint32_t bytes, uint32_t& first, uint32_t& second) {
  const uint32_t raised = bytes ^ 0x80808080u;  // + 128; behind 0x64 that reads 1024 + 128 + byte
  const __half2 scale = __float2half2_rn(1.0f / 128), offset = __float2half2_rn(-9);
  const __half2 a = __hfma2(as_half2(permute(raised, 0x64646464u, 0x4140u)), scale, offset);
  const __half2 b = __hfma2(as_half2(permute(raised, 0x64646464u, 0x4342u)), scale, offset);
  first = *reinterpret_cast<const uint32_t*>(&a);
  second = *reinterpret_cast<const uint32_t*>(&b);
}

template <int kBits>
__device__ inline void expand_as(const UnitEntry& e, const uint8_t* block, const uint8_t* table, int lane,
                                 Bytes& a) {
  uint32_t w[kBits];
  load_words<kBits>(w, block + e.offset, lane, false);
  expand<kBits>(w, *reinterpret_cast<const ByteBook*>(table + e.book), a);
}

/// This lane's unit of a slab. Lanes whose codes are bytes do not diverge.
__device__ inline void expand_unit(const UnitEntry& e, const uint8_t* block, const uint8_t* table, int lane,
                                   Operands& a) {
  const bool same = __all_sync(kAll, e.bits == __shfl_sync(kAll, int(e.bits), 0) && !e.half);
  if (e.bits > kByteBits) return unpack(e, block, table, lane, a);
  Bytes bytes;
  switch (same ? int(e.bits) : 0) {
    case 1:
      expand_as<1>(e, block, table, lane, bytes);
      break;
    case 2:
      expand_as<2>(e, block, table, lane, bytes);
      break;
    case 3:
      expand_as<3>(e, block, table, lane, bytes);
      break;
    case 4:
      expand_as<4>(e, block, table, lane, bytes);
      break;
    default:
      unpack(e, block, table, lane, bytes);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to_parts(bytes[i][0], a[i][0], a[i][2]);
    to_parts(bytes[i][1], a[i][1], a[i][3]);
  }
}

__device__ inline uint32_t multiply_add2(uint32_t x, uint32_t y, uint32_t add) {
  const __half2 z = __hfma2(as_half2(x), as_half2(y), as_half2(add));
  return *reinterpret_cast<const uint32_t*>(&z);
}

/// The norms of a page's keys by position, by one warp; 0 from `valid` on.
__device__ inline void expand_norms(const uint8_t* block, const uint8_t* table, int valid, float* norms) {
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
  const __half* const from = reinterpret_cast<const __half*>(block + t.key_norms);
  for (int i = threadIdx.x % 32; i < kPagePositions; i += 32)
    norms[i] = i < valid ? __half2float(from[norm_place(i)]) : 0.0f;
}

/// One slab of a page's keys, by one warp. mean (slab, i, lane): F R_t mean of the page, or null. apart: no
/// norms.
__device__ inline void expand_keys(int slab, const uint8_t* block, const uint8_t* table, int valid,
                                   const uint4* mean, bool apart, uint4* tile) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
  const UnitEntry e = units_of(table)[4 * slab + c];
  uint4 m[4] = {};
  if (mean)
#pragma unroll
    for (int i = 0; i < 4; ++i) m[i] = mean[(4 * slab + i) * 32 + lane];
  Operands a;
  expand_unit(e, block, table, r, a);
  if (apart) {
#pragma unroll
    for (int i = 0; i < 4; ++i) tile[(4 * slab + i) * 32 + lane] = {a[i][0], a[i][1], a[i][2], a[i][3]};
    return;
  }
  uint32_t pair[4];
  load_norms(pair, block + t.key_norms + 2 * kPagePositions * e.norm, r, valid);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = permute(pair[i], pair[i], 0x1010u), high = permute(pair[i], pair[i], 0x3232u);
    tile[(4 * slab + i) * 32 + lane] =
        mean ? uint4{multiply_add2(a[i][0], low, m[i].x), multiply_add2(a[i][1], high, m[i].y),
                     multiply_add2(a[i][2], low, m[i].z), multiply_add2(a[i][3], high, m[i].w)}
             : uint4{multiply2(a[i][0], low), multiply2(a[i][1], high), multiply2(a[i][2], low),
                     multiply2(a[i][3], high)};
  }
}

/// One slab of a page's values.
__device__ inline void expand_values(int slab, const uint8_t* block, const uint8_t* table, int valid,
                                     uint4* tile) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
  const UnitEntry e = units_of(table)[4 * t.key_slabs + 8 * slab + r];
  Operands a;
  expand_unit(e, block, table, c, a);
  uint32_t even[4], odd[4];  // of positions 2 c and 2 c + 1 of every eight
  load_norms(even, block + t.value_norms, 2 * c, valid);
  load_norms(odd, block + t.value_norms, 2 * c + 1, valid);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t near = permute(even[i], odd[i], 0x5410u), far = permute(even[i], odd[i], 0x7632u);
    tile[(4 * slab + i) * 32 + lane] = uint4{multiply2(a[i][0], near), multiply2(a[i][1], near),
                                             multiply2(a[i][2], far), multiply2(a[i][3], far)};
  }
}

/// 16 x 16 numbers of a row-major matrix, rows becoming the depth: words as those of values above.
__device__ inline uint4 transpose16(uint32_t x, uint32_t right, uint32_t below, uint32_t across) {
  return {transpose8(x), transpose8(right), transpose8(below), transpose8(across)};
}

}  // namespace blockgtq::cuda
