#pragma once
#include <cstdint>

namespace blockgtq::cuda {

/// One code unit (cache/page_layout.h) as the kernels see it.
struct alignas(16) UnitEntry {
  int32_t offset = 0;  // bytes from the start of the block
  int8_t bits = 0;     // 0: the slab is not full here
  int8_t half = 0;     // a key unit of two coordinates
  int16_t place = -1;  // keys: four times a half's number among those of all pairs, of 4 bits the first of
                       // two, + which quarter of it; -1: in none
  int32_t book = 0;    // bytes from the start of the table: centroids, see below
  int16_t norm = 0;    // which of the position's norms
  int16_t group = 0;
};

/// Pairs of slabs of keys, 1..3 bits, or slabs of 4 bits, that lie behind each other and have all their
/// coordinates from one group.
struct alignas(16) SlabRun {
  int32_t offset = 0;  // bytes from the start of the block
  int32_t bits = 0, n_pairs = 0;
  int32_t unused = 0;
  int32_t books[4];  // twice the same, 8 bytes each
};

/// Twice up to four units of a group each, 1..3 bits, that one product takes, or once of 4 bits: the positive
/// codes against q, then the negative ones against -q. Queries are zero where there is no unit.
struct alignas(16) SlabPair {
  int32_t books[2][4];  // twice the same two, 8 bytes each
  int32_t widths =
      0;             // 4 times the second half's + the first's, which is not the wider one; 4: one of 4 bits
  int32_t half = 0;  // there is a unit of two coordinates
  int32_t norms =
      -1;  // where there is a norm per group, of a group's last pair: bytes from the block's start
  float longest_row = 1;
};
inline constexpr int kMostNorms = 8;  // of a key

/// What attention needs of one KV head beside its matrices; (H, table_bytes) in device memory, every part a
/// multiple of 16 bytes:
///
///   [PackedTable][UnitEntry (key_slabs, 4)][UnitEntry (value_slabs, 8)][books][SlabRun (n_runs)]
///   [SlabPair (n_pairs - run_pairs)][lanes]
///
/// Pairs of the runs come first, then the others. lanes (n_pairs - run_pairs, 32, 2): bytes from the start of
/// the block to a lane's words of both slabs, plus one where they are 16-bit words.
///
/// A book holds centroids by stored code, as parts of the largest. 1..3 bits: 8 signed bytes, 127 the
/// largest, and once more the same; 4 bits: so the 8 positive ones. 5..8 bits: fp16. The matrices have the
/// largest as a factor.
struct alignas(16) PackedTable {
  int32_t key_slabs = 0, value_slabs = 0;
  int32_t group_norms = 0;                    // keys: a norm per group, not per key
  int32_t block_offset = 0, block_bytes = 0;  // of this head in a page
  int32_t key_norms = 0, value_norms = 0;     // bytes from the start of the block
  float query_scale = 1;  // of query_map, which is stored divided by it: no row is longer than 1
  uint32_t wide_keys = 0, wide_values = 0;  // slabs that need the fp16 product, a bit each
  int32_t n_pairs = 0, run_pairs = 0, n_runs = 0;
  int32_t runs = 0, pairs = 0, lanes = 0;  // bytes from the start of the table
  float longest_row[kMostNorms];           // of query_map, among the rows of a norm's coordinates
};

/// Whole numbers of all heads of a layer, and where their parts lie in device memory.
struct PackedLayer {
  int dim = 0, n_heads = 0, n_kv_heads = 0;  // D, Hq, H
  int key_slabs = 0, value_slabs = 0;        // the most of any head; value_slabs at most D / 16
  bool wide_keys = false;                    // of any head
  bool group_norms = false;                  // of any head
  int key_pairs = 0;                         // the most of any head
  bool key_runs = false;                     // of every head
  int uniform_key = 0, uniform_value = 0;    // width of all coordinates of all heads with one norm; 0: not so
  int64_t page_bytes = 0;                    // of 64 positions, all KV heads of one layer
  int side_bytes = 0;                        // the longest codes of keys or values of a block
  int block_bytes = 0;                       // the longest block
  int table_bytes = 0;
  const uint8_t* tables = nullptr;  // (H, table_bytes)
  // fp16 in fragment order, 16 bytes per lane; zero where a slab has no coordinate:
  const void* query_map = nullptr;    // (H, key_slabs, D / 16, 32): A operand of backward^T
  const void* value_back = nullptr;   // (H, 16 value_slabs, D) row-major: rows of backward^T in slab order
  const float* value_mean = nullptr;  // (H, D) or null
  // centred keys: null, or
  const void* key_mean =
      nullptr;  // (H, 4, D / 16, 32): A operand, R_j mean for the positions j of a page, block by block
  const float* page_angles = nullptr;     // (pages, D / 2, 2): cos and sin of 64 t theta_i
  const int16_t* block_coords = nullptr;  // (D / 2, 2): the coordinates of every block
  const void* mean_forward = nullptr;  // (H, key_slabs, D / 16, 32): B operand; columns 2 b and 2 b + 1 are F
                                       // times block b of the mean and the same a quarter turn on, in units
                                       // of packed_prefill.cu's tiles
  const float* turns = nullptr;        // (64, D / 2, 2): cos and sin of j theta_i
};

}  // namespace blockgtq::cuda
