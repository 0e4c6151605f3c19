#pragma once
#include <cstdint>

namespace blockgtq::cuda {

/// One code unit (cache/page_layout.h), as the kernels see it.
struct alignas(16) UnitEntry {
  int32_t offset = 0;  // bytes from the start of the block
  int8_t bits = 0;     // 0: there is no unit, as the slab is not full
  int8_t half = 0;     // 1: a key unit of two coordinates
  int16_t norm = 0;    // the index of its norm among those of a position
  int32_t book = 0;    // its centroids: bytes from the start of the table; see PackedTable
  int32_t group = 0;
};

/// What follows a group's pairs of whole slabs: nothing; half a product, for one more slab or for units that
/// fill no slab; or a whole product, for both, or at 4 bits for such units.
enum Tail : int32_t { kNoTail, kHalfTail, kWholeTail };

/// A group of keys of one width, up to kByteBits, in the order in which products take it. Whole slabs come in
/// pairs, one pair per product. Then comes the tail: one more slab or none, and up to four units that fill no
/// slab, each half a product or together a whole one. A slab of 4 bits is a pair of its own: its codes are
/// looked up twice, and both results are multiplied by the same queries.
struct alignas(16) KeyGroup {
  int32_t slabs = 0;  // bytes from the start of the block
  int32_t pairs = 0;  // pairs of whole slabs
  int32_t tail = kNoTail;
  int32_t lanes = 0;      // TailLane of the tail: bytes from the start of the table
  int32_t books[8] = {};  // 16 bytes, twice; at 4 bits look-ups in the first and in the last 8 add up
  int32_t bits = 0;
  int32_t norms = 0;      // where groups have norms: bytes from the start of the block
  float longest_row = 1;  // the longest row of PackedLayer::query_map, among those of this norm
  int32_t unused = 0;
};

/// A group's pairs, up to 31, and its tail in one byte.
constexpr uint32_t shape_of(const KeyGroup& group) {
  return uint32_t(group.pairs | group.tail << 5);
}
constexpr int pairs_of(uint32_t shape) {
  return shape & 31;
}
constexpr int tail_of(uint32_t shape) {
  return shape >> 5 & 3;
}

/// Where a lane's words of a tail lie, in bytes from the start of the block, and what makes whole words of
/// them, since they may be 16-bit words. selectors pick bytes out of word 0 and zero, words 0 and 1, words 1
/// and 2 (permute() in ptx.cuh).
struct alignas(16) TailLane {
  uint32_t offset, selectors[3];
};

inline constexpr float kQuerySteps = 127 * 256;  // the bound of q in fixed point

/// Where a row of PackedLayer::query_map goes among the operands (Queries). The halves of all products are
/// numbered on. One more half at the end takes the rows that belong to no product.
struct alignas(16) QueryRow {
  int32_t at = 0;       // 256 times the number of its product's first half + the place of head 0's high byte
  uint16_t pitch = 32;  // bytes from head to head: 64, in half a product 32; an eighth on: the low byte
  uint16_t twice = 0;   // 1: both bytes are stored again, 4 bytes further on
  float steps = 0;      // of fixed point: kQuerySteps / KeyGroup::longest_row
  int32_t wide = -1;    // 16 times its slab + 4 times its unit + its coordinate; -1: it is not wide
};

/// What attention needs of one KV head beside its matrices, (H, table_bytes) in device memory. Every part is
/// a multiple of 16 bytes:
///
///   [PackedTable][UnitEntry (key_slabs, 4)][UnitEntry (value_slabs, 8)][books]
///   [TailLane (32)]... [KeyGroup (n_groups)]
///
/// A book holds centroids by stored code, as parts of the largest one, which is a factor of the matrices.
/// Up to kByteBits it is 16 signed bytes, the largest 127, and the same once more. At 4 bits the negative
/// ones among the first 8 are complemented (see look_up()). For 5 to 8 bits it is fp16.
struct alignas(16) PackedTable {
  int32_t key_slabs = 0, value_slabs = 0;
  int32_t group_norms = 0;                    // keys: a norm per group, not per key
  int32_t block_offset = 0, block_bytes = 0;  // of this head in a page
  int32_t key_norms = 0, value_norms = 0;     // bytes from the start of the block
  int32_t value_centres = 0;                  // the same; 0: there are none
  float query_scale = 1;  // query_map is stored divided by it, so that no row is longer than 1
  uint32_t wide_keys = 0, wide_values = 0;  // slabs that need the fp16 product, one bit each
  int32_t n_groups = 0;                     // groups of up to kByteBits; 4, one per width, where by_width
  int32_t groups = 0;                       // bytes from the start of the table
  uint32_t shapes = 0;  // where by_width: shape_of() of every width, one byte each; else 0
};

/// How R_t rotates a mean: coordinate d becomes mean[d] cos + sign mean[other] sin, by its rotary
/// block's angle.
struct MeanCoordinate {
  int16_t block = 0, other = 0;
  float sign = 0;
};

/// Which vectors x keep their mean (lib/cache/mean_rule.h): those with sum_d weight_d m_d x_d < limit. m is
/// R_t mean for keys, and contained in the weights for values. The position's first norm is then negative.
struct MeanRules {
  const float* weights = nullptr;  // (H, D); null: no mean
  const float* limits = nullptr;   // (H)
};

/// The centres m_i of values, in device memory. A position holds the number of its own
/// (cache/page_layout.h).
struct ValueCentres {
  int n = 0;                       // M; 0: none
  const float* rows = nullptr;     // (H, M, D)
  const float* columns = nullptr;  // (H, D, M): the same, transposed
  const float* limits = nullptr;   // (H, M): |m_i|^2 / 2 (lib/cache/centre_rule.h)
  const void* padded = nullptr;    // (H, centre_rows(M), D) fp16: rows, then zeros
};

/// The most centres that kernels serve. Attention keeps the sums of so many, which are rows of 16 to a slab,
/// in registers.
inline constexpr int kMostCentresOnDevice = 64;
constexpr int centre_slabs(int centres) {
  return centres > 0 ? kMostCentresOnDevice / 16 : 0;
}
constexpr int centre_rows(int centres) {
  return 16 * centre_slabs(centres);
}

/// The sizes of a layer, which hold for all its heads, and where its parts lie in device memory.
struct PackedLayer {
  int dim = 0, n_heads = 0, n_kv_heads = 0;  // D, Hq, H
  int key_slabs = 0, value_slabs = 0;        // the largest number of any head; value_slabs is at most D / 16
  bool wide_keys = false;                    // whether any head has wide keys
  int key_halves = 0;                        // halves of products, the most of any head; see QueryRow
  bool by_width = false;  // every head has one norm, at most one group per width, and none above kByteBits
  int uniform_key = 0, uniform_value = 0;  // the one width of all heads, with one norm; 0: there is none
  int64_t page_bytes = 0;                  // from page to page: 64 positions, all KV heads of one layer
  int side_bytes = 0;                      // the longest codes of keys or values in a block
  int block_bytes = 0;                     // the longest block
  int table_bytes = 0;
  const uint8_t* tables = nullptr;  // (H, table_bytes)
  // (H, D / 16, D / 16, 32): backward^T as A operand, rows in the order of slabs. It is fp16 in fragment
  // order, 16 bytes per lane, and zero where a slab has no coordinate.
  const void* query_map = nullptr;
  const QueryRow* query_rows = nullptr;  // (H, D): where its rows go
  // (H, D / 16, 4, 4) fp16, of coordinates 16 k + 2 c, + 1, + 8 and + 9: W^2. W makes |W q| a bound of every
  // number of B^T q divided by its norm's longest row.
  const void* query_weights = nullptr;
  const void* value_back = nullptr;  // (H, 16 value_slabs, D) row-major: rows of backward^T in slab order
  // The matrices that turn keys and values back, scaled for the entries of packed_tiles.cuh; slabs in order:
  const void* key_expand = nullptr;    // (H, D / 16, key_slabs, 32): B operand, keys divided by query_scale
  const void* value_expand = nullptr;  // (H, D / 16, value_slabs, 32): A operand
  const float* value_mean = nullptr;   // (H, D) or null
  // For centred keys, otherwise null. The first is an A operand, with j the positions of a page:
  const void* key_mean = nullptr;               // (H, 4, D / 16, 32): R_j mean, by rotary blocks
  const float* page_angles = nullptr;           // (pages, D / 2, 2): cos and sin of 64 t theta_i for page t
  const int16_t* block_coords = nullptr;        // (D / 2, 2): the coordinates of every rotary block
  const float* key_rows = nullptr;              // (H, 64, D): R_j mean
  const MeanCoordinate* coordinates = nullptr;  // (D)
  MeanRules key_rules, value_rules;
  ValueCentres centres;  // instead of value_mean
};

}  // namespace blockgtq::cuda
