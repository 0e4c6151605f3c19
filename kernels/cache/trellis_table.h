#pragma once
#include <cstdint>

#include "kernels/cache/packed_table.h"

namespace blockgtq::cuda {

/// How centroids are found by the bits of a stream, in a table in shared memory: rows of 32 copies, a word
/// for each lane, all of it in one bank, so that all lanes read at once.
///
///   single  one coordinate by its window of 8 bits: four equal bytes
///   pair    two coordinates by the last 10 bits of their windows. Of 2 bits that is all of them: a word
///   whose
///           first two bytes are the coordinates. Of 3 bits one bit is missing: the bytes are the first
///           coordinate if it is 0, the first one if it is 1, and the second one; the permutation that puts
///           bytes together takes that bit.
enum class LookUp { single, pair };

/// What codes of `bits` are looked up with, beside others of `other` bits: both tables must leave room for
/// pages, of which two tables of pairs leave none.
constexpr LookUp look_up_of(int bits, int other) {
  return bits == 3 || (bits == 2 && other == 2) ? LookUp::pair : LookUp::single;
}

/// Bytes from row to row. Of single codes of 4 bits 256, so that a permutation makes an address of a byte.
constexpr int row_bytes(int bits, int other) {
  return bits == 4 && other != 3 ? 256 : 128;
}
constexpr int table_rows(int bits, int other) {
  return look_up_of(bits, other) == LookUp::pair ? 1 << 10 : 1 << 8;
}
constexpr int look_up_bytes(int bits, int other) {
  return table_rows(bits, other) * row_bytes(bits, other);
}

/// The coordinates of a chunk come four by four, as bytes of a word: coordinate of byte i of word m. Of 3
/// bits these are two pairs that are no neighbours, see trellis_look_up.cuh.
constexpr int quad_coordinate(int bits, int m, int i) {
  if (bits != 3) return 4 * m + i;
  const int pair = m / 2 * 4 + m % 2;
  return i < 2 ? 2 * pair + i : 2 * (pair + 2) + 3 - i;
}

/// The coordinate at place 0..15 of a slab of the first product's depth, as key_coordinate() of
/// page_layout.h, and of the second one's rows, as value_coordinate().
constexpr int trellis_key_coordinate(int dim, int bits, int slab, int place) {
  return place % 8 / 2 * (dim / 4) + quad_coordinate(bits, slab, place / 8 * 2 + place % 2);
}
constexpr int trellis_value_coordinate(int dim, int bits, int slab, int place) {
  const int first = quad_coordinate(bits, slab / 2, place / 8 * 2),
            second = quad_coordinate(bits, slab / 2, place / 8 * 2 + 1);
  const int low = first < second ? first : second;
  return place % 8 * (dim / 8) + low + slab % 2;
}

/// A layer whose pages hold trellis codes (cache/trellis_page.h), in device memory.
struct TrellisLayer {
  PackedLayer packed;  // heads, query map, B and means, as of scalar codes of one width; of a head's table
                       // nothing but PackedTable: slabs, query_scale, where norms are, and block_offset,
                       // which is its number times block_bytes
  int key_bits = 0, value_bits = 0;
  // (table_rows()) the words of the tables; the same address where both sides have as many bits
  const uint32_t *key_centroids = nullptr, *value_centroids = nullptr;
  const int8_t* bytes = nullptr;  // (2, 256): centroids of keys and of values by window, 127 the largest
};

}  // namespace blockgtq::cuda
