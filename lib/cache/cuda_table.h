#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

#include "cache/packed_cache.h"
#include "kernels/cache/packed_table.h"

namespace blockgtq {

using TableBytes = std::vector<uint8_t>;

/// Where they begin: at a multiple of 16, as what follows.
template <class T>
int append(TableBytes& to, const T* values, size_t n) {
  const size_t at = to.size();
  to.resize((at + n * sizeof(T) + 15) / 16 * 16);
  std::memcpy(to.data() + at, values, n * sizeof(T));
  return int(at);
}

/// A row of the query map: which coordinate of z, or none.
struct MapRow {
  int unit = 0, coordinate = 0;  // of the stream; of the unit
  int z = -1;
};

/// D rows in the order of slabs.
std::vector<MapRow> map_rows(const CodeStream& keys, int dim);

/// What attention needs of one KV head beside its matrices: cuda::PackedTable, and of queries.
struct HeadTable {
  TableBytes bytes;
  // See cuda::PackedLayer:
  int key_halves = 0;
  std::vector<cuda::QueryRow> query_rows;  // (D)
  std::vector<uint16_t> query_weights;     // (D)
  const cuda::PackedTable& table() const { return *reinterpret_cast<const cuda::PackedTable*>(bytes.data()); }
};
HeadTable make_head_table(const PackedSpec& spec, const PageShape& page, int head);

}  // namespace blockgtq
