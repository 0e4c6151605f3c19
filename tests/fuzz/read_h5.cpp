// Our own HDF5 files with any content. HDF5 itself is outside of this: the file is sound, and what it says is
// not. The input edits a small file of one kind: what numbers and texts are there, what arrays hold, how
// large they are, what is missing.
#include <hdf5.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "reader.h"
#include "store/samples.h"
#include "store/schema.h"

namespace blockgtq {
namespace {

/// Bytes of the input, zeros behind its end.
struct Bytes {
  std::string_view left;
  uint8_t byte() {
    const uint8_t b = left.empty() ? 0 : uint8_t(left[0]);
    left.remove_prefix(left.empty() ? 0 : 1);
    return b;
  }
  std::string_view take(size_t n) {
    const std::string_view some = left.substr(0, n);
    left.remove_prefix(some.size());
    return some;
  }
  /// n bytes, the input's over and over where it ends too soon.
  std::string filled(size_t n) {
    const std::string_view some = take(std::min<size_t>(n, 16));
    std::string out(n, '\0');
    for (size_t i = 0; i < n && !some.empty(); ++i) out[i] = some[i % some.size()];
    return out;
  }
};

/// A file opened to be edited.
class Edited {
 public:
  explicit Edited(const fs::path& path) {
    file_ = H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    check(file_ >= 0, "a sound file does not open");
    H5Ovisit(file_, H5_INDEX_NAME, H5_ITER_INC, note_set, &sets_);
    hsize_t at = 0;
    H5Aiterate2(file_, H5_INDEX_NAME, H5_ITER_INC, &at, note_attribute, &attributes_);
  }
  ~Edited() { H5Fclose(file_); }

  void set_attribute(Bytes& in) {
    const std::string& name = attributes_[in.byte() % attributes_.size()];
    const hid_t attribute = H5Aopen(file_, name.c_str(), H5P_DEFAULT);
    if (attribute < 0) return;  // it was removed
    const hid_t type = H5Aget_type(attribute);
    const std::string value = in.filled(H5Tget_size(type));
    H5Awrite(attribute, type, value.data());
    H5Tclose(type);
    H5Aclose(attribute);
  }
  void remove_attribute(Bytes& in) { H5Adelete(file_, attributes_[in.byte() % attributes_.size()].c_str()); }
  void fill_set(Bytes& in) {
    const hid_t set = H5Dopen2(file_, sets_[in.byte() % sets_.size()].c_str(), H5P_DEFAULT);
    if (set < 0) return;
    const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    const std::string data = in.filled(size_t(H5Sget_simple_extent_npoints(space)) * H5Tget_size(type));
    H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data());
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(set);
  }
  /// The array anew, of other dimensions or of another type.
  void reshape_set(Bytes& in) {
    const std::string& name = sets_[in.byte() % sets_.size()];
    const hid_t set = H5Dopen2(file_, name.c_str(), H5P_DEFAULT);
    if (set < 0) return;
    const hid_t creation = H5Dget_create_plist(set), old = H5Dget_type(set);
    const hid_t types[] = {old, H5T_STD_U8LE, H5T_STD_I64LE, H5T_IEEE_F64LE};
    const hid_t type = types[in.byte() % 4];
    H5Dclose(set);
    H5Ldelete(file_, name.c_str(), H5P_DEFAULT);
    std::vector<hsize_t> dims(1 + in.byte() % 4), chunk;
    for (hsize_t& d : dims) d = in.byte() % 12;
    for (const hsize_t d : dims) chunk.push_back(std::max<hsize_t>(d, 1));
    H5Pset_chunk(creation, int(chunk.size()), chunk.data());
    const hid_t space = H5Screate_simple(int(dims.size()), dims.data(), nullptr);
    const hid_t made = H5Dcreate2(file_, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    if (made >= 0) {
      const std::string data = in.filled(size_t(H5Sget_simple_extent_npoints(space)) * H5Tget_size(type));
      H5Dwrite(made, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data());
      H5Dclose(made);
    }
    H5Sclose(space);
    H5Tclose(old);
    H5Pclose(creation);
  }
  void remove_set(Bytes& in) { H5Ldelete(file_, sets_[in.byte() % sets_.size()].c_str(), H5P_DEFAULT); }

 private:
  static herr_t note_set(hid_t, const char* name, const H5O_info_t* info, void* names) {
    if (info->type == H5O_TYPE_DATASET) static_cast<std::vector<std::string>*>(names)->push_back(name);
    return 0;
  }
  static herr_t note_attribute(hid_t, const char* name, const H5A_info_t*, void* names) {
    static_cast<std::vector<std::string>*>(names)->push_back(name);
    return 0;
  }
  hid_t file_;
  std::vector<std::string> sets_, attributes_;
};

}  // namespace

/// A byte for the kind of file; then edits, a byte each and what it needs.
void fuzz_h5(std::string_view input) {
  prepare_hdf5();
  Bytes in{input};
  const std::string kind = kinds()[in.byte() % kinds().size()];
  const fs::path path = scratch_folder() / "edited.h5";
  static std::map<std::string, std::string> sound;
  if (sound[kind].empty()) {
    write_kind(kind, path);
    sound[kind] = bytes_of(path);
  }
  put_bytes(path, sound[kind]);
  if (!in.left.empty()) {
    Edited file(path);
    for (int edits = 0; edits < 8 && !in.left.empty(); ++edits) {
      const uint8_t what = in.byte() % 8;
      if (what < 3) file.set_attribute(in);
      if (what == 3) file.remove_attribute(in);
      if (what == 4 || what == 5) file.fill_set(in);
      if (what == 6) file.reshape_set(in);
      if (what == 7) file.remove_set(in);
    }
  }
  read_kind(kind, path);
}

}  // namespace blockgtq
