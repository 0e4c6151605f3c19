#pragma once
#include <functional>
#include <string>
#include <vector>

#include "store/h5_extent.h"
#include "store/packed_chunks.h"

// Reads and writes a dataset HDF5 chunk by HDF5 chunk, without the library's own filters. There are two
// reasons. The library (1.10) accepts a chunk that inflates to less than it should, and hands out what lies
// behind it in memory. And it uses one thread for all chunks. Private to lib/store.

namespace blockgtq {

/// A chunk as it lies in the file.
struct StoredChunk {
  Dims first;  // its place in the array
  std::string bytes;
  unsigned left_out;  // bit i: filter i was not applied
};

/// Every chunk of a dataset, in the array's order. Exit::input where one cannot be read.
void for_each_chunk(hid_t set, const Extent& extent, const std::string& where,
                    const std::function<void(const StoredChunk&)>& body);

/// The whole array, as elements of the file's type. Exit::input where a chunk fails its checksum or does not
/// hold exactly what it should.
void read_chunks(hid_t set, const Extent& extent, const std::string& where, char* out);

/// The whole array, elements of the file's type, to a new dataset with the filters shuffle, gzip and
/// fletcher32: the bytes that the library would write, packed side by side. `places` gets where every chunk
/// lies, in the array's order. Negative where HDF5 fails.
herr_t write_chunks(hid_t set, const Extent& extent, const char* data, std::vector<ChunkPlace>& places);

/// The same of an array whose chunks are packed already.
herr_t write_packed_chunks(hid_t set, const Extent& extent, PackedChunks& from,
                           std::vector<ChunkPlace>& places);

}  // namespace blockgtq
