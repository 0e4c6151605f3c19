#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/page.h"

// The packed cache's layout: the one description that the CPU packer, the CUDA kernels and the exporter
// share.
//
// A page holds 64 positions of one layer. Per KV head it has one block:
//
//   [codes of keys][codes of values][key norms][value norms]        every part a multiple of 16 bytes
//
// Codes are cut into units of few coordinates and all 64 positions, so that true bits need no padding:
//
//   keys    a quad: 4 coordinates, 8 lanes of `bits` 32-bit words; where a group leaves two coordinates over,
//           half a quad: 8 lanes of `bits` 16-bit words (the low halves)
//   values  a pair: 2 coordinates, 4 lanes of `bits` 32-bit words
//
// A lane's words are 32 codes: four tiles i of eight nibbles p, in the order in which a lane of a warp holds
// the A operand of the 8-bit mma.m16n8k32 (nibbles 0..3 one row, 4..7 the row 8 below):
//
//   keys    lane r      position 16 i + 8 (p / 4) + r                  coordinate p % 4 of the quad
//   values  lane c      position 16 i + 8 (p / 2 % 2) + 2 c + p % 2    coordinate p / 4 of the pair
//
// (half a quad: nibbles 0, 1, 4, 5 of every tile, as the four nibbles of a 16-bit word's tile.)
//
// Four quads, or eight pairs, make a slab: the 16 coordinates of one product. A group fills as many slabs of
// its own as it can; what is left of all groups shares the last slabs.
//
// The sign bit of a position's first norm is set where its key or value keeps its mean
// (LinearCode::mean_flag).
//
// A code is sign and magnitude: which magnitude of the (symmetric) codebook, rising, and among its bits, at
// sign_bit(), one that is set below zero. Bits of 32 codes in `bits` words: code_bit().

namespace blockgtq {

inline constexpr int kSlab = 16;  // coordinates

/// Up to this width centroids are bytes in the cache, 127 the largest; wider ones are fp16 parts of the
/// largest.
inline constexpr int kByteBits = 4;

/// Where bit k of code (i, p) of a lane lies among its words.
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
  if (bits == 3 && i == 3) return {k, nibble + 3};  // spread over the fourth bits of the others
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

/// The index of a position's norm among the 64 of its group: lane r finds its eight next to each other.
constexpr int norm_place(int position) {
  return position % 8 * 8 + position / 8;
}

/// Where the sign lies in a stored code: among the lowest three bits, so that of 4 bits two codes that differ
/// in the highest bit only have the same sign: kernels/cache/unpack.cuh looks both up at once.
constexpr int sign_bit(int bits) {
  return bits < 3 ? bits - 1 : 2;
}

/// Centroid index (ascending) <-> stored code.
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

/// A group of neighbouring coordinates of z: d of them (even), 1..8 bits each.
struct GroupWidth {
  int d = 0, bits = 0;
};

struct CodeUnit {
  int offset = 0;  // bytes from the start of the stream
  int bits = 0;    // 0: nothing there, the slab is not full
  int group = 0;
  int first = 0, coords = 0;                 // coordinates [first, first + coords) of z
  bool half() const { return coords == 2; }  // of a key unit
};

/// The codes of one side of a block.
struct CodeStream {
  std::vector<CodeUnit> units;  // (n_slabs, units_per_slab)
  int units_per_slab = 0;       // 4 quads or 8 pairs
  int bytes = 0;
  int n_slabs() const { return int(units.size()) / units_per_slab; }
};
CodeStream key_stream(std::span<const GroupWidth> groups);
CodeStream value_stream(std::span<const GroupWidth> groups);

/// The coordinate of z at place 0..15 of a slab, in the order of the product's depth (keys: place 2 c + e and
/// 2 c + 8 + e belong to quad c) or rows (values: place r and r + 8 belong to pair r); -1 where there is
/// none.
int key_coordinate(const CodeStream& stream, int slab, int place);
int value_coordinate(const CodeStream& stream, int slab, int place);

/// One KV head's block of a page.
struct BlockShape {
  CodeStream key, value;
  int key_norms = 1, value_norms = 1;  // per position
  int value_offset = 0, key_norm_offset = 0, value_norm_offset = 0, bytes = 0;
};
BlockShape block_shape(std::span<const GroupWidth> key, bool key_one_norm, std::span<const GroupWidth> value,
                       bool value_one_norm);

}  // namespace blockgtq
