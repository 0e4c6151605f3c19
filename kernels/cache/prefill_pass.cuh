// A piece of a prefix and a chunk on their way through the kernels of packed_prefill.cu, and the layout of
// what is between them.
//
// A tile is 64 positions of a KV head in fp16, as tensor cores read them from shared memory:
//
//   keys    (D / 64 rounded up, 64, 64): rows are positions, 64 coordinates each
//   values  (D, 64): rows are coordinates, 64 positions each
//
// A row is 128 bytes, of which piece i of 16 bytes lies at i ^ row % 8: eight rows of one piece are in
// different banks, and wgmma's 128-byte swizzle finds them (kernels/device/wgmma.cuh).
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
/// Where 16 bytes lie, piece 0..7 of a row.
constexpr int place_of(int row, int piece) {
  return row * kRowBytes + ((piece ^ row) & 7) * 16;
}

/// Rows of queries, (token, head of the group) of one KV head, are computed by blocks of at most so many.
constexpr int kBlockRows = 128;

/// A piece of the prefix; with the last one the chunk itself.
struct PrefillPass {
  int dim, n_heads, n_kv_heads, group, batch, tokens;
  PageTable packed, exact;  // lengths null: none
  int first_page;
  int first_tile,
      room;          // of the prefix's tiles, packed ones and then exact ones; so many fit, an even number
  int chunk_tiles;   // likewise
  bool first, last;  // of the pieces
  uint8_t* prefix;   // (B, H, room, tile)
  uint8_t* chunk;    // (B, H, chunk_tiles, tile)
  const __half *q, *k, *v;
  __half* out;
  float scale;         // of scores, times log2(e); of capped ones
  float inner;         // of scores on their way to a cap, times 2 log2(e); 0: there is none
  int window;          // positions that a query sees, its own the last of them; 0: all
  const float* sinks;  // (Hq) or null
  int splits;          // of the work of a block of rows
  int rows;            // T times the group, in whole blocks
  // Between pieces, or to be merged: (splits, B, H, rows, D) and (splits, B, H, rows, 2)
  float* sums;     // weights times values
  float* weights;  // the maximum in powers of two, and the sum of weights
  bool kept() const { return splits > 1 || !(first && last); }
  /// Whether kernels have to know of a rule; of sinks only the end does.
  bool ruled() const { return window > 0 || inner > 0; }
};

/// Keys and values of a pass become tiles. packed, trellis: as in PrefillAttention.
void lay_tiles(const PrefillPass& pass, const PackedLayer* packed, const TrellisLayer* trellis,
               const Stream& stream);

/// Attention over them, by tensor cores of sm_90a; false where this device or this build or this head
/// dimension has no such kernel. And by those of any device.
bool attend_by_wgmma(const PrefillPass& pass, const Stream& stream);
void attend_by_mma(const PrefillPass& pass, const Stream& stream);

/// The tiles of a sequence's prefix.
struct Prefix {
  int packed, exact, packed_tiles;  // positions; tiles
  int n_first;                      // of exact positions that come before the packed ones
  __device__ Prefix(const PrefillPass& a, int sequence) {
    packed = a.packed.lengths ? max(a.packed.lengths[sequence] - a.first_page * kPagePositions, 0) : 0;
    exact = a.exact.lengths ? a.exact.lengths[sequence] : 0;
    packed_tiles = (packed + kPagePositions - 1) / kPagePositions;
    n_first = a.first_page * kPagePositions;
  }
  __device__ int tiles() const { return packed_tiles + (exact + kPagePositions - 1) / kPagePositions; }
  /// Positions of a tile, the first ones; 0 behind the last tile.
  __device__ int valid(int tile) const {
    const int left =
        tile < packed_tiles ? packed - tile * kPagePositions : exact - (tile - packed_tiles) * kPagePositions;
    return min(max(left, 0), kPagePositions);
  }
  /// Where the chunk begins.
  __device__ int end() const { return packed + max(exact, packed > 0 ? n_first : 0); }
  /// Where a tile's first position stands in the sequence.
  __device__ int position(int tile) const {
    if (tile < packed_tiles) return n_first + tile * kPagePositions;
    const int place = (tile - packed_tiles) * kPagePositions;
    return place < n_first ? place : place + packed;
  }
  /// No tile before this one has a position from `from` on, but for the first exact ones, which may.
  __device__ int first_tile(int from) const {
    const int of_packed = max(from - n_first, 0) / kPagePositions;
    return of_packed < packed_tiles ? of_packed : packed_tiles + max(from - packed, 0) / kPagePositions;
  }
};

}  // namespace blockgtq::cuda
