#pragma once
#include <hdf5.h>

#include <string>
#include <utility>

#include "store/h5.h"

// What h5_input.cpp and h5_output.cpp share. Private to them.

namespace blockgtq {

inline constexpr int64_t kNewestSchemaVersion = 3;  // of any schema
inline constexpr uint64_t kMaxChunkBytes = 1
                                           << 20;  // of a dataset's HDF5 chunk, unless one element is larger
inline constexpr uint64_t kMaxAttributeBytes =
    60000;  // of a text attribute; HDF5 keeps up to 64 KiB in a header
inline constexpr uint64_t kMaxTextBytes = 1 << 20;      // of one string in an array
inline constexpr uint64_t kMaxStringsBytes = 64 << 20;  // of a whole array of strings, padding counted
inline constexpr unsigned kGzipLevel = 4;

/// Closes an HDF5 object at the end of its scope, unless *abandoned is true by then: closing an object of a
/// file that could not be written would try to write again and fail half way through.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const bool* abandoned = nullptr)
      : id_(id), close_(close), abandoned_(abandoned) {}
  Handle(const Handle&) = delete;
  ~Handle() {
    if (id_ >= 0 && !(abandoned_ && *abandoned_)) close_(id_);
  }
  operator hid_t() const { return id_; }
  herr_t close() { return close_(std::exchange(id_, -1)); }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
  const bool* abandoned_;
};

/// Whether this entry of a failed call's stack says that there was no memory.
bool is_lack_of_memory(const H5E_error2_t& entry);

/// The innermost reason of the last call's failure, as one line; std::bad_alloc where it was a lack of
/// memory. To be asked before any other call of HDF5, which would forget it.
std::string last_error();

/// What a call of HDF5 made while it read `where`. Exit::input where it failed.
Handle read_handle(hid_t id, herr_t (*close)(hid_t), const std::string& where);

/// How files are opened: by plain POSIX calls, without HDF5's lock (our outputs are locked already, and
/// network file systems often cannot lock), and in the file format of HDF5 1.10 whatever the library's
/// version.
Handle file_access();

Handle number_type(H5Type type);  // in the file; in memory the same on a little-endian machine
uint64_t item_bytes(H5Type type);
Handle text_type(size_t bytes);

}  // namespace blockgtq
