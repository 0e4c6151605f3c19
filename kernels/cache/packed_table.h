#pragma once
#include <cstdint>

namespace blockgtq::cuda {

/// One code unit (cache/page_layout.h) as the kernels see it.
struct alignas(16) UnitEntry {
  int32_t offset = 0;  // bytes from the start of the block
  int8_t bits = 0;     // 0: the slab is not full here
  int8_t half = 0;     // a key unit of two coordinates
  int16_t norm = 0;    // which of the position's norms
  int32_t book = 0;    // bytes from the start of the table: centroids, see below
  int32_t group = 0;
};

/// What follows a group's pairs: nothing, half a product of lanes of their own, or a whole one, a slab before
/// them.
enum Tail : int32_t { kNoTail, kHalfTail, kWholeTail };

/// Keys of a group of up to kByteBits as the products take them: whole slabs two by two; then one more or
/// none, and up to four units that fill no slab, half a product each or together a whole one. A slab of 4
/// bits is a pair of its own: both parts of what is looked up, against the same queries.
struct alignas(16) KeyGroup {
  int32_t slabs = 0;  // bytes from the start of the block
  int32_t pairs = 0;  // of whole slabs
  int32_t tail = kNoTail;
  int32_t lanes = 0;      // the tail's: bytes from the start of the table
  int32_t books[8] = {};  // 16 bytes, twice the same; 4 bits: look-ups of the first and the last add up
  int32_t bits = 0;
  int32_t norms = 0;      // where there is a norm per group: bytes from the start of the block
  float longest_row = 1;  // of PackedLayer::query_map, among this norm's
  int32_t unused = 0;
};

/// A group's pairs, up to 31, and its tail as a byte.
constexpr uint32_t shape_of(const KeyGroup& group) {
  return uint32_t(group.pairs | group.tail << 5);
}
constexpr int pairs_of(uint32_t shape) {
  return shape & 31;
}
constexpr int tail_of(uint32_t shape) {
  return shape >> 5 & 3;
}

/// A lane's words of a tail: where, in bytes from the start of the block, and what makes whole words of them,
/// which may be 16-bit ones: byte selectors of words 0 and 0, 0 and 1, 1 and 2.
struct alignas(16) TailLane {
  uint32_t offset, selectors[3];
};

inline constexpr float kQuerySteps = 127 * 256;  // fixed point of q: the bound

/// What becomes of a row of PackedLayer::query_map.
struct alignas(16) QueryRow {
  int32_t at = 0;  // 256 times the first half, of those of all products, of this row's (the last one is for
                   // rows of none), and where the high byte lies among the bytes of head 0
  uint16_t pitch = 32;  // bytes from head to head: 64, in half a product 32; an eighth on: the low byte
  uint16_t twice = 0;   // and both 4 bytes on
  float steps = 0;      // fixed point: kQuerySteps by KeyGroup::longest_row
  int32_t wide = -1;    // 16 times its slab + 4 times its unit + its coordinate; -1: up to kByteBits
};

/// What attention needs of one KV head beside its matrices; (H, table_bytes) in device memory, every part a
/// multiple of 16 bytes:
///
///   [PackedTable][UnitEntry (key_slabs, 4)][UnitEntry (value_slabs, 8)][books]
///   [TailLane (32)]... [KeyGroup (n_groups)]
///
/// A book holds centroids by stored code, as parts of the largest, which the matrices have as a factor. Up to
/// kByteBits: 16 signed bytes, 127 the largest, and once more the same; of 4 bits those below zero among the
/// first 8 complemented (see look_up()). 5..8 bits: fp16.
struct alignas(16) PackedTable {
  int32_t key_slabs = 0, value_slabs = 0;
  int32_t group_norms = 0;                    // keys: a norm per group, not per key
  int32_t block_offset = 0, block_bytes = 0;  // of this head in a page
  int32_t key_norms = 0, value_norms = 0;     // bytes from the start of the block
  float query_scale = 1;  // of query_map, which is stored divided by it: no row is longer than 1
  uint32_t wide_keys = 0, wide_values = 0;  // slabs that need the fp16 product, a bit each
  int32_t n_groups = 0;                     // of up to kByteBits; 4 by width where by_width
  int32_t groups = 0;                       // bytes from the start of the table
  uint32_t shapes = 0;                      // by width, a byte each: shape_of(); 0: not by width
};

/// How R_t turns a mean: coordinate d becomes mean[d] cos + sign mean[other] sin of its block's angle.
struct MeanCoordinate {
  int16_t block = 0, other = 0;
  float sign = 0;
};

/// Which vectors x keep their mean, by lib/cache/mean_rule.h: where sum_d weight_d m_d x_d < limit. m_d: of
/// keys R_t mean; values have it in their weights. Then the sign bit of the position's first norm is set.
struct MeanRules {
  const float* weights = nullptr;  // (H, D); null: no mean
  const float* limits = nullptr;   // (H)
};

/// Whole numbers of all heads of a layer, and where their parts lie in device memory.
struct PackedLayer {
  int dim = 0, n_heads = 0, n_kv_heads = 0;  // D, Hq, H
  int key_slabs = 0, value_slabs = 0;        // the most of any head; value_slabs at most D / 16
  bool wide_keys = false;                    // of any head
  int key_halves = 0;     // of products, two of a pair, and one for what none takes; the most of any head
  bool by_width = false;  // every head: one norm, no group wider than kByteBits, one of each width
  int uniform_key = 0, uniform_value = 0;  // width of all coordinates of all heads with one norm; 0: not so
  int64_t page_bytes = 0;                  // of 64 positions, all KV heads of one layer
  int side_bytes = 0;                      // the longest codes of keys or values of a block
  int block_bytes = 0;                     // the longest block
  int table_bytes = 0;
  const uint8_t* tables = nullptr;  // (H, table_bytes)
  // fp16 in fragment order, 16 bytes per lane; zero where a slab has no coordinate:
  const void* query_map =
      nullptr;  // (H, D / 16, D / 16, 32): A operand of backward^T, rows in the order of slabs
  const QueryRow* query_rows = nullptr;  // (H, D): what becomes of them
  // fp16 (H, D / 16, 4, 4), of coordinates 16 k + 2 c, + 1, + 8 and + 9: W^2, where no number of B^T q, by
  // its norm's longest row, is larger than |W q|:
  const void* query_weights = nullptr;
  const void* value_back = nullptr;  // (H, 16 value_slabs, D) row-major: rows of backward^T in slab order
  // backward of both in units of packed_tiles.cuh, slabs in order:
  const void* key_expand = nullptr;    // (H, D / 16, key_slabs, 32): B operand, keys divided by query_scale
  const void* value_expand = nullptr;  // (H, D / 16, value_slabs, 32): A operand
  const float* value_mean = nullptr;   // (H, D) or null
  // centred keys: null, or
  const void* key_mean =
      nullptr;  // (H, 4, D / 16, 32): A operand, R_j mean for the positions j of a page, block by block
  const float* page_angles = nullptr;           // (pages, D / 2, 2): cos and sin of 64 t theta_i
  const int16_t* block_coords = nullptr;        // (D / 2, 2): the coordinates of every block
  const float* key_rows = nullptr;              // (H, 64, D): R_j mean
  const MeanCoordinate* coordinates = nullptr;  // (D)
  MeanRules key_rules, value_rules;
};

}  // namespace blockgtq::cuda
