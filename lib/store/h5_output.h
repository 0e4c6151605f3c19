#pragma once
#include <functional>

#include "base/file.h"
#include "store/h5.h"
#include "store/packed_chunks.h"

namespace blockgtq {

struct Extent;

/// A file being written. Every failure is an Exit::output error "PATH: cannot write: ..."; after one the file
/// is abandoned: nothing may be asked of the library about it again.
class H5Output {
 public:
  /// Truncates `path`; writes the attributes schema, schema_version and complete = 0.
  H5Output(const fs::path& path, const std::string& schema, int64_t schema_version = 1);
  H5Output(const H5Output&) = delete;
  ~H5Output();

  void put_int(const std::string& name, int64_t value);
  void put_u64(const std::string& name, uint64_t value);
  void put_real(const std::string& name, double value);
  void put_text(const std::string& name, const std::string& value);

  void group(const std::string& name);  // before anything inside it
  /// `stored_type`, where given, becomes an attribute of the dataset.
  template <class T>
  void write(const std::string& name, const Dims& dims, const T* data, H5Type type = h5_type<T>(),
             const std::string& stored_type = "") {
    write_raw(name, dims, data, type, stored_type);
  }
  /// The same of an array whose chunks are packed already.
  void write_packed(const std::string& name, const Dims& dims, H5Type type, const std::string& stored_type,
                    PackedChunks& from);
  void write_strings(const std::string& name, const Dims& dims, const std::vector<std::string>& values);
  /// Where the data of all arrays so far lies, in the order of their writing: in the file already, whatever
  /// else HDF5 still holds back.
  const std::vector<ChunkPlace>& chunks() const { return chunks_; }

  /// Flushes everything to disk, sets complete = 1, and closes the file.
  void finish();

 private:
  int64_t must(int64_t id_or_status);
  [[noreturn]] void abandon();
  void write_raw(const std::string& name, const Dims& dims, const void* data, H5Type type,
                 const std::string& stored_type);
  void write_typed(const std::string& name, const Dims& dims, int64_t type, uint64_t item_bytes,
                   const std::string& stored_type,
                   const std::function<int(int64_t set, const Extent& extent)>& write_data);
  void put_scalar(int64_t object, const std::string& name, int64_t type, const void* value);
  void put_text(int64_t object, const std::string& name, const std::string& value);

  fs::path path_;
  std::string shown_;  // its target's name, where that is a temporary file
  int64_t file_ = -1;
  bool abandoned_ = false;
  std::vector<ChunkPlace> chunks_;
};

}  // namespace blockgtq
