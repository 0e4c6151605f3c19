#pragma once
#include <algorithm>
#include <cstdint>

#include "cache/page_layout.h"
#include "quant/exact_window.h"

// The layout of pages in fp16, which the CPU code and the CUDA kernels share.
//
// A page holds 64 positions of one layer. Per KV head it has a block of four parts, 16 positions each:
//
//   [keys (16, D)][values (16, D)]
//
// Keys and values are cut into squares of 16 x 16 numbers, D / 16 of them one after the other:
//
//   keys    rows are positions, columns are 16 neighbouring coordinates
//   values  rows are 16 neighbouring coordinates, columns are positions
//
// A square is an A fragment of mma.m16n8k16: the 16 bytes of lane 0, of lane 1, and so on. A warp reads 512
// contiguous bytes per square, and a part is copied into shared memory in one piece.

namespace blockgtq {

inline constexpr int kPartPositions = 16, kPageParts = kPagePositions / kPartPositions;

constexpr int exact_part_bytes(int dim) {
  return 2 * kPartPositions * dim * 2;
}
constexpr int exact_block_bytes(int dim) {
  return kPageParts * exact_part_bytes(dim);
}
constexpr int64_t exact_page_bytes(int n_kv_heads, int dim) {
  return int64_t(n_kv_heads) * exact_block_bytes(dim);
}

/// The index of a number among the 256 of a square.
constexpr int square_place(int row, int column) {
  const int lane = row % 8 * 4 + column % 8 / 2;
  return 8 * lane + 2 * (row / 8 + 2 * (column / 8)) + column % 2;
}

/// The index of a number in its block.
constexpr int exact_key_place(int dim, int position, int coordinate) {
  return position / kPartPositions * 2 * kPartPositions * dim + coordinate / 16 * 256 +
         square_place(position % kPartPositions, coordinate % 16);
}
constexpr int exact_value_place(int dim, int position, int coordinate) {
  return position / kPartPositions * 2 * kPartPositions * dim + kPartPositions * dim + coordinate / 16 * 256 +
         square_place(coordinate % 16, position % kPartPositions);
}

// A sequence with exact positions: packed are whole pages only. So its exact pages hold the sink, which is
// whole pages too, and at least the recent positions. The sink's pages come first, then the recent ones.

/// Packed positions of a sequence of this length are [sink, packed_end). These are whole pages where there is
/// a recent window behind them.
constexpr int64_t packed_end(const ExactWindow& window, int64_t length) {
  const int64_t before = std::max<int64_t>(length - window.recent, 0);
  return std::max(window.sink, window.recent > 0 ? before / kPagePositions * kPagePositions : length);
}
/// How many positions of a sequence of this length the exact pages hold.
constexpr int64_t exact_length(const ExactWindow& window, int64_t length) {
  return length < window.sink ? length : window.sink + length - packed_end(window, length);
}

}  // namespace blockgtq
