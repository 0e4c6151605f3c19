#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/page.h"

// The layout of packed pages, which the CPU packer, the CUDA kernels and the exporter share.
//
// A page holds 64 positions of one layer. Per KV head it has one block:
//
//   [codes of keys][codes of values][key norms][value norms][value centres]     each a multiple of 16 bytes
//
// Codes are cut into units of a few coordinates and all 64 positions. So codes of any width need no padding:
//
//   keys    a quad: 4 coordinates, 8 lanes of `bits` 32-bit words. Where a group leaves two coordinates over,
//           half a quad: 8 lanes of `bits` 16-bit words (the low halves)
//   values  a pair: 2 coordinates, 4 lanes of `bits` 32-bit words
//
// The words of a lane are 32 codes: four tiles i of eight nibbles p. That is the order in which a lane of a
// warp holds its A fragment of the 8-bit mma.m16n8k32 (nibbles 0..3 are one row, 4..7 the row 8 below):
//
//   keys    lane r      position 16 i + 8 (p / 4) + r                  coordinate p % 4 of the quad
//   values  lane c      position 16 i + 8 (p / 2 % 2) + 2 c + p % 2    coordinate p / 4 of the pair
//
// (In half a quad, nibbles 0, 1, 4, 5 of every tile are the four nibbles of a 16-bit word's tile.)
//
// Four quads, or eight pairs, make a slab: the 16 coordinates of one MMA. A group fills as many slabs of its
// own as it can. What is left of all groups shares the last slabs.
//
// The sign bit of a position's first norm is set where its key or value keeps its mean
// (LinearCode::mean_flag).
//
// Value centres are there where values have centres: a byte per position, the number of its centre, at
// centre_place(). It means nothing where the sign bit is set.
//
// Codebooks are symmetric, so a code is sign and magnitude: the index of the magnitude in ascending order,
// with the sign inserted at sign_bit(), set for a negative centroid. code_bit() says where the bits of 32
// codes lie in `bits` words.

namespace blockgtq {

inline constexpr int kSlab = 16;  // coordinates

/// Up to this width centroids are bytes in the cache, 127 for the largest. Centroids of wider codes are fp16
/// fractions of the largest.
inline constexpr int kByteBits = 4;

/// Where bit k of code (i, p) of a lane lies: the index of its word, and the bit in that word.
struct CodeBit {
  int word, bit;
};
constexpr CodeBit code_bit(int bits, int i, int p, int k) {
  const int nibble = 4 * p;
  if (bits > 4) {  // four words of low nibbles, then the upper bits as a narrower code
    if (k < 4) return {i, nibble + k};
    const CodeBit upper = code_bit(bits - 4, i, p, k - 4);
    return {4 + upper.word, upper.bit};
  }
  if (bits == 1) return {0, nibble + i};
  if (bits == 2) return {i / 2, nibble + 2 * (i % 2) + k};
  if (bits == 3 && i == 3) return {k, nibble + 3};  // in the unused fourth bits of the other tiles
  return {i, nibble + k};
}

/// A code's place in its unit: lane, tile i, nibble p.
struct CodePlace {
  int lane, i, p;
};
constexpr CodePlace key_place(int position, int coordinate, bool half) {
  const int eighth = position / 8;
  return {position % 8, eighth / 2, (half ? 2 : 4) * (eighth % 2) + coordinate};
}
constexpr CodePlace value_place(int position, int coordinate) {
  return {position % 8 / 2, position / 16, 2 * (position % 16 / 8) + position % 2 + 4 * coordinate};
}

/// The index of a position's norm among the 64 of its group. The eight norms of lane r are adjacent.
constexpr int norm_place(int position) {
  return position % 8 * 8 + position / 8;
}

/// Where the byte of a position's centre lies among the 64. Lane c of a quad finds those of its columns of
/// V^T, positions 16 i + 8 h + 2 c + e, as 16 bytes 4 i + 2 h + e.
constexpr int centre_place(int position) {
  return position % 8 / 2 * 16 + position / 16 * 4 + position / 8 % 2 * 2 + position % 2;
}
inline constexpr int kMostCentres = 256;

/// Where the sign lies in a stored code: among the lowest three bits. So two codes of 4 bits that differ only
/// in the highest bit have the same sign, and kernels/cache/unpack.cuh looks both up at once.
constexpr int sign_bit(int bits) {
  return bits < 3 ? bits - 1 : 2;
}

/// Converts a centroid's index (ascending) to the stored code, and back.
constexpr uint32_t stored_code(int bits, uint32_t index) {
  const uint32_t half = 1u << (bits - 1), sign = 1u << sign_bit(bits), negative = index < half ? sign : 0;
  const uint32_t magnitude = negative ? half - 1 - index : index - half;
  return (magnitude & (sign - 1)) | negative | (magnitude & ~(sign - 1)) << 1;
}
constexpr uint32_t centroid_index(int bits, uint32_t stored) {
  const uint32_t half = 1u << (bits - 1), sign = 1u << sign_bit(bits);
  const uint32_t magnitude = (stored & (sign - 1)) | (stored >> 1 & ~(sign - 1));
  return stored & sign ? half - 1 - magnitude : half + magnitude;
}

/// A group of neighbouring coordinates of z: d of them, which is even, with 1..8 bits each.
struct GroupWidth {
  int d = 0, bits = 0;
};

/// A unit of a stream: a quad or half a quad of keys, or a pair of values.
struct CodeUnit {
  int offset = 0;  // bytes from the start of the stream
  int bits = 0;    // 0: an empty place of a slab that is not full
  int group = 0;
  int first = 0, coords = 0;                 // coordinates [first, first + coords) of z
  bool half() const { return coords == 2; }  // of a key unit
};

/// The units of one side of a block.
struct CodeStream {
  std::vector<CodeUnit> units;  // (n_slabs, units_per_slab)
  int units_per_slab = 0;       // 4 quads or 8 pairs
  int bytes = 0;
  int n_slabs() const { return int(units.size()) / units_per_slab; }
};
/// The streams of groups in stored order, keys and values.
CodeStream key_stream(std::span<const GroupWidth> groups);
CodeStream value_stream(std::span<const GroupWidth> groups);

/// The coordinate of z at place 0..15 of a slab, -1 where there is none. For keys a place is the depth of the
/// MMA: places 2 c + e and 2 c + 8 + e belong to quad c. For values it is the row of the MMA: places r and r
/// + 8 belong to pair r.
int key_coordinate(const CodeStream& stream, int slab, int place);
int value_coordinate(const CodeStream& stream, int slab, int place);

/// One KV head's block of a page. Offsets are bytes from its start.
struct BlockShape {
  CodeStream key, value;
  int key_norms = 1, value_norms = 1;  // per position
  int value_offset = 0, key_norm_offset = 0, value_norm_offset = 0, bytes = 0;
  int value_centre_offset = 0;  // 0: values have no centres
};
BlockShape block_shape(std::span<const GroupWidth> key, bool key_one_norm, std::span<const GroupWidth> value,
                       bool value_one_norm, bool value_centres = false);

}  // namespace blockgtq
