#pragma once
#include <cstdint>

#include "cache/page_layout.h"

// Pages of trellis codes (quant/trellis.h): what the CPU twin and the CUDA kernels share.
//
// A page holds 64 positions of one layer. Per KV head it has a block of two sides, keys and values, each with
// its own number of bits for all D coordinates and one norm per position:
//
//   [codes of keys][key norms][codes of values][value norms]     every part a multiple of 16 bytes
//
// Norms lie as in page_layout.h (norm_place()), and have a sign as there. Codes are four tiles of 16
// positions. A tile's bits are those of 32 lanes (r, c) of a warp, lane 4 r + c, which have D bits / 64 words
// of 32 bits each: chunks of the streams of neighbouring positions, one after the other,
//
//   keys    chunk c, of D / 4 coordinates, of positions r and 8 + r
//   values  chunk r, of D / 8 coordinates, of positions 2 c, 2 c + 1, 8 + 2 c and 9 + 2 c
//
// so that a lane finds the windows of the coordinates that it has in an operand of the 8-bit mma.m16n8k32 in
// its own words; of the bits before a chunk, which the chunk's first windows begin with, its neighbour has
// the words. Pieces of as many words as one load takes (4, 2 or 1) lie lane by lane:
//
//   tile    (pieces, 32 lanes, words of a piece)
//
// The bits are the stream's own and as many as scalar codes have: nothing is padded.

namespace blockgtq {

/// Head dimensions that trellis pages are made for, and bits.
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
constexpr int trellis_block_bytes(int dim, int key_bits, int value_bits) {
  return trellis_side_bytes(dim, key_bits) + trellis_side_bytes(dim, value_bits);
}

/// A lane's words of a tile, and of a piece.
constexpr int lane_words(int dim, int bits) {
  return dim * bits / 64;
}
constexpr int piece_words(int dim, int bits) {
  const int words = lane_words(dim, bits);
  return words % 4 == 0 ? 4 : words % 2 == 0 ? 2 : 1;
}

/// A lane, and its chunk of a position: the chunk-th of its tile.
struct TrellisLane {
  int lane, chunk;
};
/// part: which chunk of the position's stream.
constexpr TrellisLane trellis_lane(bool keys, int position, int part) {
  const int p = position % 16;
  return keys ? TrellisLane{4 * (p % 8) + part, p / 8}
              : TrellisLane{4 * part + p % 8 / 2, 2 * (p / 8) + p % 2};
}

/// Which bit of its side (bit i of byte b: 8 b + i) bit `at` of a position's stream is.
constexpr int trellis_bit(int dim, int bits, bool keys, int position, int at) {
  const int chunk_bits = dim * bits / (keys ? 4 : 8), words = piece_words(dim, bits);
  const TrellisLane place = trellis_lane(keys, position, at / chunk_bits);
  const int of_lane = place.chunk * chunk_bits + at % chunk_bits, word = of_lane / 32;
  const int index =
      (position / 16 * lane_words(dim, bits) + word / words * words) * 32 + place.lane * words + word % words;
  return 32 * index + of_lane % 32;
}

}  // namespace blockgtq
