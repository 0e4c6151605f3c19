#pragma once
#include "base/file.h"
#include "store/h5.h"

namespace blockgtq {

/// A file being read. It may hold anything. Every failure is an Exit::input error "PATH: NAME: ...".
class H5Input {
 public:
  /// Reads the whole file in a child process first (h5_guard.h). Refuses a file that is not HDF5, has no
  /// schema, has another schema_version, or was never completed.
  explicit H5Input(const fs::path& path);
  /// The same, and the schema must be this one, of a version up to `newest`.
  H5Input(const fs::path& path, const std::string& schema, int64_t newest = 1);
  H5Input(const H5Input&) = delete;
  ~H5Input();

  const std::string& schema() const { return schema_; }
  std::string path() const { return path_.string(); }

  int64_t get_int(const std::string& name, int64_t low, int64_t high) const;
  uint64_t get_u64(const std::string& name) const;
  double get_real(const std::string& name) const;  // finite
  std::string get_text(const std::string& name) const;
  void expect_text(const std::string& name, const std::string& allowed) const;

  bool has(const std::string& name) const;
  Dims dims(const std::string& name, size_t rank) const;
  /// The whole array, whose type and dimensions must be exactly these. An array of no elements is not looked
  /// up.
  template <class T>
  std::vector<T> read(const std::string& name, const Dims& dims, H5Type type = h5_type<T>()) const {
    const uint64_t n = check_array(name, dims, type);
    std::vector<T> data(n);
    if (n > 0) read_raw(name, data.data());
    return data;
  }
  std::vector<std::string> read_strings(const std::string& name, const Dims& dims) const;

 private:
  void open();
  void survey() const;  // reads every attribute and array, and discards them
  uint64_t check_array(const std::string& name, const Dims& dims, H5Type type) const;
  void read_raw(const std::string& name, void* data) const;  // as many elements as check_array said
  void get_scalar(const std::string& name, H5Type type, void* value) const;

  struct File {
    int64_t id = -1;
    void close();
    ~File() { close(); }
  };
  fs::path path_;
  File file_;
  uint64_t file_bytes_ = 0;
  std::string schema_;
};

}  // namespace blockgtq
