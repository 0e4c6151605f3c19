#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "cache/packed_cache.h"
#include "kernels/cache/packed_table.h"

namespace blockgtq {

using TableBytes = std::vector<uint8_t>;  // of a table in device memory

/// Appends n values and returns the byte at which they begin. It is a multiple of 16, as the new size.
template <class T>
int append(TableBytes& to, const T* values, size_t n) {
  const size_t at = to.size();
  to.resize((at + n * sizeof(T) + 15) / 16 * 16);
  std::memcpy(to.data() + at, values, n * sizeof(T));
  return int(at);
}

/// One row of the query map: the coordinate of z that it holds, if any.
struct MapRow {
  int unit = 0, coordinate = 0;  // index of the unit in the stream; coordinate within the unit
  int z = -1;                    // index into z; -1: none
};

/// The D rows of the query map, in the order of slabs.
std::vector<MapRow> map_rows(const CodeStream& keys, int dim);

/// What attention needs of one KV head besides matrices: cuda::PackedTable, and the map of queries.
struct HeadTable {
  TableBytes bytes;
  // The same names as in cuda::PackedLayer:
  int key_halves = 0;
  std::vector<cuda::QueryRow> query_rows;  // (D)
  std::vector<uint16_t> query_weights;     // (D)
  const cuda::PackedTable& table() const { return *reinterpret_cast<const cuda::PackedTable*>(bytes.data()); }
};
/// The table of one KV head. `page` is page_shape(spec).
HeadTable make_head_table(const PackedSpec& spec, const PageShape& page, int head);

}  // namespace blockgtq
