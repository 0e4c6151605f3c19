#pragma once
#include <string>

#include "store/h5_handle.h"

// How a dataset of ours lies in the file. Private to lib/store, as h5_handle.h.

namespace blockgtq {

/// Sizes of a dataset.
struct Extent {
  Dims dims, chunk;         // of the whole array and of one HDF5 chunk
  uint64_t n = 1;           // elements
  uint64_t item_bytes = 0;  // of one

  /// At most kMaxChunkBytes, or one item.
  uint64_t chunk_bytes() const {
    uint64_t bytes = item_bytes;
    for (uint64_t d : chunk) bytes *= d;
    return bytes;
  }
};

/// Whether there is something of this name, in a group that is there. Exit::input where HDF5 cannot tell.
bool has_link(hid_t file, const std::string& path, const std::string& name);

/// The dataset `name`, opened after checking that no part of its path leads out of the file.
Handle open_set(hid_t file, const std::string& path, const std::string& name);

/// Dimensions, after checking that the dataset is stored as ours are: these filters, small chunks, all of
/// them there, not more than the file can hold.
Extent extent_of(hid_t set, const std::string& where, uint64_t file_bytes);

/// An array as the messages name it: "2 x 64".
std::string list(const Dims& dims);

bool is_fixed_text(hid_t type);

}  // namespace blockgtq
