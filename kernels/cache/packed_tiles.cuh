// Decodes a page's packed codes to fp16 operands, in shared memory, for the products that turn keys and
// values back into the model's basis. Part of prefill_tiles.cu.
//
// 64 positions lie as the lanes of a warp hold operands of mma.m16n8k16: (slab, i, lane), 16 bytes each. The
// depth is the 16 places of a slab:
//
//   keys    A operand of positions 16 i to 16 i + 15
//   values  B operands of positions 16 i to 16 i + 7 (words x and y) and of the next eight (z and w)
//
// Codes lie in a page (cache/page_layout.h) as the A operand of K or of V^T. A lane unpacks a unit and stores
// what it has, values after a transposition.
//
// Entries are centroids alone, which are exact in fp16. Norms come after the product. A norm times the few
// centroids would give a key only a few numbers, whose roundings do not average. Where a key has several
// norms, entries are norm times centroid. A centroid that is a byte counts 1 / 128 here, which is exact too.
// PackedLayer::key_expand and value_expand make up for it.
#pragma once
#include "cache/page_layout.h"
#include "kernels/cache/unpack.cuh"

namespace blockgtq::cuda {

/// Four signed bytes as fp16, divided by 128, which is exact.
__device__ inline void to_parts(uint32_t bytes, uint32_t& first, uint32_t& second) {
  // + 128; with 0x64 above it, this reads 1024 + 128 + byte as fp16
  const uint32_t raised = bytes ^ 0x80808080u;
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

/// Unpacks this lane's unit of a slab. Lanes whose codes are bytes do not diverge.
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

/// Writes what the products of each position are multiplied with, by one warp: its norm, or 1 where entries
/// contain it, with the sign bit of a position that keeps its mean; 0 from `valid` on.
__device__ inline void expand_norms(const uint8_t* norms, bool in_entries, int valid, float* to) {
  const __half* const from = reinterpret_cast<const __half*>(norms);
  for (int i = threadIdx.x % 32; i < kPagePositions; i += 32) {
    const float norm = i < valid ? __half2float(from[norm_place(i)]) : 0.0f;
    to[i] = in_entries && i < valid ? copysignf(1.0f, norm) : norm;
  }
}

/// Decodes one slab of a page's keys, by one warp.
__device__ inline void expand_keys(int slab, const uint8_t* block, const uint8_t* table, int valid,
                                   uint4* to) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
  const UnitEntry e = units_of(table)[4 * slab + c];
  Operands a;
  expand_unit(e, block, table, r, a);
  uint32_t pair[4] = {0x3c003c00u, 0x3c003c00u, 0x3c003c00u, 0x3c003c00u};  // ones in fp16
  if (t.group_norms) load_norms(pair, block + t.key_norms + 2 * kPagePositions * e.norm, r, valid);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t x = without_signs(pair[i]), low = permute(x, x, 0x1010u), high = permute(x, x, 0x3232u);
    to[(4 * slab + i) * 32 + lane] = {multiply2(a[i][0], low), multiply2(a[i][1], high),
                                      multiply2(a[i][2], low), multiply2(a[i][3], high)};
  }
}

/// Decodes one slab of a page's values, by one warp.
__device__ inline void expand_values(int slab, const uint8_t* block, const uint8_t* table, uint4* to) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
  Operands a;
  expand_unit(units_of(table)[4 * t.key_slabs + 8 * slab + r], block, table, c, a);
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 4; ++i)
    to[(4 * slab + i) * 32 + lane] = {transpose8(a[i][0]), transpose8(a[i][1]), transpose8(a[i][2]),
                                      transpose8(a[i][3])};
}

}  // namespace blockgtq::cuda
