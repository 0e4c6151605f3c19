#pragma once
#include <cstdint>

#include "kernels/cache/packed_table.h"

namespace blockgtq::cuda {

/// How the bits of a stream find centroids, in a table in shared memory. A row has 32 copies of a word, one
/// for each lane, in one bank each, so that all lanes read at once.
///
///   single  finds one coordinate by its window of 8 bits. A word is four equal bytes.
///   pair    finds two coordinates by the last 10 bits of their windows. At 2 bits these are all bits, and
///           the first two bytes of a word are the coordinates. At 3 bits one bit is missing: the bytes are
///           the first coordinate if that bit is 0, the first one if it is 1, and the second one. The
///           permutation that joins bytes takes the bit.
enum class LookUp { single, pair };

/// What codes of `bits` are looked up with, beside others of `other` bits. Both tables must leave room for
/// pages. Two different tables of pairs leave none.
constexpr LookUp look_up_of(int bits, int other) {
  return bits == 3 || (bits == 2 && other == 2) ? LookUp::pair : LookUp::single;
}

/// Bytes from row to row. For single codes of 4 bits they are 256, so that a permutation makes the
/// address of a byte.
constexpr int row_bytes(int bits, int other) {
  return bits == 4 && other != 3 ? 256 : 128;
}
constexpr int table_rows(int bits, int other) {
  return look_up_of(bits, other) == LookUp::pair ? 1 << 10 : 1 << 8;
}
constexpr int look_up_bytes(int bits, int other) {
  return table_rows(bits, other) * row_bytes(bits, other);
}

/// The coordinates of a chunk come in fours, as bytes of a word. Returns the coordinate of byte i of word m.
/// At 3 bits a word is two pairs that are no neighbours, see trellis_look_up.cuh.
constexpr int quad_coordinate(int bits, int m, int i) {
  if (bits != 3) return 4 * m + i;
  const int pair = m / 2 * 4 + m % 2;
  return i < 2 ? 2 * pair + i : 2 * (pair + 2) + 3 - i;
}

/// The coordinate at place 0..15 of a slab: of the first product's depth, like key_coordinate() of
/// page_layout.h, and of the second product's rows, like value_coordinate().
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
  // Heads, query map, B and means, as for scalar codes of one width. A head's table is PackedTable alone:
  // slabs, query_scale, where norms are, and block_offset, which is the head's number times block_bytes.
  PackedLayer packed;
  int key_bits = 0, value_bits = 0;
  // (table_rows()) the words of the tables. The address is the same where both sides have equal bits.
  const uint32_t *key_centroids = nullptr, *value_centroids = nullptr;
  const int8_t* bytes = nullptr;  // (2, 256): centroids of keys and of values by window, the largest 127
};

}  // namespace blockgtq::cuda
