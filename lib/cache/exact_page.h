#pragma once
#include <algorithm>
#include <cstdint>

#include "cache/page_layout.h"
#include "quant/exact_window.h"

// Pages of keys and values as they are, in fp16: what the CPU twin and the CUDA kernels share.
//
// A page holds 64 positions of one layer. Per KV head it has a block of four parts, 16 positions each:
//
//   [keys (16, D)][values (16, D)]
//
// Both are cut into squares of 16 x 16 numbers, D / 16 of them one after the other:
//
//   keys    rows are positions, columns 16 neighbouring coordinates
//   values  rows are 16 neighbouring coordinates, columns positions
//
// and a square is the A operand of mma.m16n8k16: a lane's 16 bytes after each other, lane by lane. A warp
// reads 512 contiguous bytes per square, and a part is one copy into shared memory.

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

/// The index of a number among those of its block.
constexpr int exact_key_place(int dim, int position, int coordinate) {
  return position / kPartPositions * 2 * kPartPositions * dim + coordinate / 16 * 256 +
         square_place(position % kPartPositions, coordinate % 16);
}
constexpr int exact_value_place(int dim, int position, int coordinate) {
  return position / kPartPositions * 2 * kPartPositions * dim + kPartPositions * dim + coordinate / 16 * 256 +
         square_place(coordinate % 16, position % kPartPositions);
}

// The buffered setting: what is packed is whole pages, so that a sequence's exact window holds the sink
// (whole pages as well) and at least its recent positions. Exact pages are the sink's, then the recent ones'.

/// Packed positions of a sequence of this length: [sink, packed_end), whole pages where there is a recent
/// window behind them.
constexpr int64_t packed_end(const ExactWindow& window, int64_t length) {
  const int64_t before = std::max<int64_t>(length - window.recent, 0);
  return std::max(window.sink, window.recent > 0 ? before / kPagePositions * kPagePositions : length);
}
constexpr int64_t exact_length(const ExactWindow& window, int64_t length) {
  return length < window.sink ? length : window.sink + length - packed_end(window, length);
}

}  // namespace blockgtq
