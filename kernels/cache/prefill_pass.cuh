// A pass of prefill: a piece of a prefix, with the last one the chunk, on its way through the kernels of
// packed_prefill.cu; and the layout of the tiles between these kernels.
//
// A tile is 64 positions of a KV head in fp16, as tensor cores read them from shared memory:
//
//   keys    (D / 64 rounded up, 64, 64): rows are positions, 64 coordinates each
//   values  (D, 64): rows are coordinates, 64 positions each
//
// A row is 128 bytes. Its 16-byte piece i lies at i ^ (row % 8). So the same piece of eight rows is in
// different banks, and wgmma's 128-byte swizzle finds it (kernels/device/wgmma.cuh).
#pragma once
#include <cuda_fp16.h>

#include <algorithm>

#include "cache/page_layout.h"
#include "kernels/cache/attention_rule.h"
#include "kernels/cache/packed_table.h"
#include "kernels/cache/page_table.h"
#include "kernels/cache/trellis_table.h"
#include "kernels/device/check.cuh"

namespace blockgtq::cuda {

constexpr int kRowBytes = 128, kChunkBytes = kPagePositions * kRowBytes;  // 64 coordinates of a tile's keys

constexpr int key_tile_bytes(int dim) {
  return (dim + 63) / 64 * kChunkBytes;
}
constexpr int value_tile_bytes(int dim) {
  return dim * kRowBytes;
}
constexpr int tile_bytes(int dim) {
  return key_tile_bytes(dim) + value_tile_bytes(dim);
}
/// The offset of 16-byte piece 0..7 of a row.
constexpr int place_of(int row, int piece) {
  return row * kRowBytes + ((piece ^ row) & 7) * 16;
}

/// Rows of queries are (token, head of the group) of one KV head. A block computes at most this
/// number of rows.
constexpr int kBlockRows = 128;

/// A piece of the prefix; the last one comes with the chunk itself.
struct PrefillPass {
  int dim, n_heads, n_kv_heads, group, batch, tokens;
  PageTable packed, exact;  // lengths null: none
  int first_page;
  // Of the prefix's tiles, which are packed ones and then exact ones: the first of this piece, and how many
  // fit, an even number.
  int first_tile, room;
  int chunk_tiles;   // the number of tiles of the chunk, which is even
  bool first, last;  // whether this is the first, or the last, of the pieces
  uint8_t* prefix;   // (B, H, room, tile)
  uint8_t* chunk;    // (B, H, chunk_tiles, tile)
  const __half *q, *k, *v;
  __half* out;
  float scale;         // factor of scores, or of capped ones, times log2(e)
  float inner;         // factor of scores before the softcap, times 2 log2(e); 0: there is none
  int window;          // how many positions a query sees, its own being the last; 0: all
  const float* sinks;  // (Hq) or null
  int splits;          // parts that the work of a block of rows is cut into
  int rows;            // T times the group, rounded up to whole blocks
  // Kept between pieces, or for parts to be added up: (splits, B, H, rows, D) and (splits, B, H, rows, 2).
  float* sums;     // weights times values
  float* weights;  // the maximum in powers of two, and the sum of weights
  bool kept() const { return splits > 1 || !(first && last); }
  /// Whether kernels have to know of a rule. Only the end has to know of sinks.
  bool ruled() const { return window > 0 || inner > 0; }
};

/// Writes the tiles of a pass. packed, trellis: as in PrefillAttention.
void lay_tiles(const PrefillPass& pass, const PackedLayer* packed, const TrellisLayer* trellis,
               const Stream& stream);

/// Attention over the tiles. attend_by_wgmma() takes the tensor cores of sm_90a, and returns false where this
/// device, this build or this head dimension has no such kernel. attend_by_mma() runs on any device.
bool attend_by_wgmma(const PrefillPass& pass, const Stream& stream);
void attend_by_mma(const PrefillPass& pass, const Stream& stream);

/// A sequence's prefix and its tiles.
struct Prefix {
  int packed, exact, packed_tiles;  // positions; tiles of packed ones
  int n_first;                      // exact positions that come before the packed ones
  __device__ Prefix(const PrefillPass& a, int sequence) {
    packed = a.packed.lengths ? max(a.packed.lengths[sequence] - a.first_page * kPagePositions, 0) : 0;
    exact = a.exact.lengths ? a.exact.lengths[sequence] : 0;
    packed_tiles = (packed + kPagePositions - 1) / kPagePositions;
    n_first = a.first_page * kPagePositions;
  }
  __device__ int tiles() const { return packed_tiles + (exact + kPagePositions - 1) / kPagePositions; }
  /// How many positions a tile has, which are its first ones; 0 behind the last tile.
  __device__ int valid(int tile) const {
    const int left =
        tile < packed_tiles ? packed - tile * kPagePositions : exact - (tile - packed_tiles) * kPagePositions;
    return min(max(left, 0), kPagePositions);
  }
  /// The position where the chunk begins.
  __device__ int end() const { return packed + max(exact, packed > 0 ? n_first : 0); }
  /// The position in the sequence of a tile's first one.
  __device__ int position(int tile) const {
    if (tile < packed_tiles) return n_first + tile * kPagePositions;
    const int place = (tile - packed_tiles) * kPagePositions;
    return place < n_first ? place : place + packed;
  }
  /// The first tile that may have positions from `from` on. No tile before it has any, except for the first
  /// exact ones, which may.
  __device__ int first_tile(int from) const {
    const int of_packed = max(from - n_first, 0) / kPagePositions;
    return of_packed < packed_tiles ? of_packed : packed_tiles + max(from - packed, 0) / kPagePositions;
  }
};

}  // namespace blockgtq::cuda
