#pragma once
#include <cstdint>

#include "cache/page_layout.h"

// The layout of pages of trellis codes (quant/trellis.h), which the CPU code and the CUDA kernels share.
//
// A page holds 64 positions of one layer. Per KV head it has a block of two sides, keys and values. A side
// has
// its own number of bits, the same for all D coordinates, and one norm per position:
//
//   [codes of keys][key norms][codes of values][value norms][value centres]     each a multiple of 16 bytes
//
// Norms lie as in page_layout.h (norm_place()), with the same sign bit, and so do value centres
// (centre_place()), which are there where values have centres. Codes are four tiles of 16 positions.
// The bits of a tile belong to the 32 lanes (r, c) of a warp, lane 4 r + c. Each lane has D bits / 64 words
// of
// 32 bits: chunks of the streams of neighbouring positions, one after the other,
//
//   keys    chunk c, of D / 4 coordinates, of positions r and 8 + r
//   values  chunk r, of D / 8 coordinates, of positions 2 c, 2 c + 1, 8 + 2 c and 9 + 2 c
//
// So a lane finds in its own words the windows of the coordinates of its fragment of the 8-bit mma.m16n8k32.
// The first windows of a chunk begin with bits before it, which are in the words of the neighbouring lane.
// A lane's words are cut into pieces of as many words as one load takes (4, 2 or 1), and pieces lie lane by
// lane:
//
//   tile    (pieces, 32 lanes, words of a piece)
//
// The bits are those of the stream, as many as scalar codes have. There is no padding.

namespace blockgtq {

/// The head dimensions and bits that trellis pages exist for.
constexpr bool has_trellis_page(int dim, int bits) {
  return (dim == 64 || dim == 128) && bits >= 2 && bits <= 4;
}

inline constexpr int kTrellisTiles = 4;  // of a page

constexpr int trellis_code_bytes(int dim, int bits) {  // of a side
  return dim * bits * kPagePositions / 8;
}
constexpr int trellis_side_bytes(int dim, int bits) {
  return trellis_code_bytes(dim, bits) + 2 * kPagePositions;
}
constexpr int trellis_block_bytes(int dim, int key_bits, int value_bits, bool value_centres) {
  return trellis_side_bytes(dim, key_bits) + trellis_side_bytes(dim, value_bits) +
         (value_centres ? kPagePositions : 0);
}

/// A lane's words of a tile; words of a piece.
constexpr int lane_words(int dim, int bits) {
  return dim * bits / 64;
}
constexpr int piece_words(int dim, int bits) {
  const int words = lane_words(dim, bits);
  return words % 4 == 0 ? 4 : words % 2 == 0 ? 2 : 1;
}

/// A lane of a tile, and which of the lane's chunks it is.
struct TrellisLane {
  int lane, chunk;
};
/// Where chunk `part` of a position's stream lies.
constexpr TrellisLane trellis_lane(bool keys, int position, int part) {
  const int p = position % 16;
  return keys ? TrellisLane{4 * (p % 8) + part, p / 8}
              : TrellisLane{4 * part + p % 8 / 2, 2 * (p / 8) + p % 2};
}

/// Bit `at` of a position's stream, as a bit of its side (bit i of byte b is 8 b + i).
constexpr int trellis_bit(int dim, int bits, bool keys, int position, int at) {
  const int chunk_bits = dim * bits / (keys ? 4 : 8), words = piece_words(dim, bits);
  const TrellisLane place = trellis_lane(keys, position, at / chunk_bits);
  const int of_lane = place.chunk * chunk_bits + at % chunk_bits, word = of_lane / 32;
  const int index =
      (position / 16 * lane_words(dim, bits) + word / words * words) * 32 + place.lane * words + word % words;
  return 32 * index + of_lane % 32;
}

}  // namespace blockgtq
