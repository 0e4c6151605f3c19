#include "store/h5_output.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/temporaries.h"
#include "store/h5_chunks.h"
#include "store/h5_handle.h"
#include "store/schema.h"

namespace blockgtq {
namespace {

constexpr unsigned kCompact = 65535;  // the most links or attributes that HDF5 can keep in a header

/// Dimensions of a chunk: as many trailing dimensions of the array as fit, so that a chunk is contiguous in
/// it.
std::vector<hsize_t> chunk_dims(const std::vector<hsize_t>& dims, uint64_t item_bytes) {
  std::vector<hsize_t> chunk(dims.size(), 1);
  uint64_t bytes = item_bytes;
  for (size_t i = dims.size(); i-- > 0;) {
    chunk[i] = std::clamp<uint64_t>(kMaxChunkBytes / bytes, 1, dims[i]);
    bytes *= chunk[i];
    if (chunk[i] < dims[i]) break;
  }
  return chunk;
}

/// No time stamps. All links and attributes stay in the group's own header, however many there are, so that a
/// reader need not trust trees and heaps.
herr_t set_plain_group(hid_t creation) {
  const bool ok = H5Pset_obj_track_times(creation, false) >= 0 &&
                  H5Pset_attr_phase_change(creation, kCompact, kCompact) >= 0 &&
                  H5Pset_link_phase_change(creation, kCompact, kCompact) >= 0;
  return ok ? 0 : -1;
}

}  // namespace

H5Output::H5Output(const fs::path& path, const std::string& schema, int64_t schema_version)
    : path_(path), shown_(target_of(path).string()) {
  prepare_hdf5();
  const Handle access = file_access();
  const Handle creation(must(H5Pcreate(H5P_FILE_CREATE)), H5Pclose);
  must(set_plain_group(creation));  // of the root group
  file_ = must(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation, access));
  put_text("schema", schema);
  put_int("schema_version", schema_version);
  put_int("complete", 0);
}

H5Output::~H5Output() {
  if (file_ < 0 || abandoned_) return;
  if (H5Fflush(file_, H5F_SCOPE_GLOBAL) >= 0) H5Fclose(file_);
}

int64_t H5Output::must(int64_t id_or_status) {
  if (id_or_status < 0) abandon();
  return id_or_status;
}

/// HDF5 keeps what it could not write and tries again at every later close; where that fails too, 1.10 may
/// free the object and keep its identifier. So the file stays open, untouched, until the process ends; only
/// its blocks are given back, unless it has a second name, under which a later run wants them.
void H5Output::abandon() {
  abandoned_ = true;
  struct stat st;
  if (file_ >= 0 && stat(path_.c_str(), &st) == 0 && st.st_nlink == 1) [[maybe_unused]]
    const int best_effort = truncate(path_.c_str(), 0);
  fail_output("{}: cannot write: {}", shown_, last_error());
}

void H5Output::put_scalar(int64_t object, const std::string& name, int64_t type, const void* value) {
  const Handle space(must(H5Screate(H5S_SCALAR)), H5Sclose);
  Handle attribute(must(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT)), H5Aclose,
                   &abandoned_);
  must(H5Awrite(attribute, type, value));
  must(attribute.close());
}

void H5Output::put_text(int64_t object, const std::string& name, const std::string& value) {
  check(value.find('\0') == std::string::npos, "text with NUL in an HDF5 attribute");
  if (value.size() > kMaxAttributeBytes)
    fail_output("{}: cannot write: {}: {} bytes of text, allowed {}", shown_, name, value.size(),
                kMaxAttributeBytes);
  put_scalar(object, name, text_type(std::max<size_t>(value.size(), 1)), value.c_str());
}

void H5Output::put_int(const std::string& name, int64_t value) {
  put_scalar(file_, name, number_type(H5Type::i64), &value);
}
void H5Output::put_u64(const std::string& name, uint64_t value) {
  put_scalar(file_, name, number_type(H5Type::u64), &value);
}
void H5Output::put_real(const std::string& name, double value) {
  put_scalar(file_, name, number_type(H5Type::f64), &value);
}
void H5Output::put_text(const std::string& name, const std::string& value) {
  put_text(file_, name, value);
}

void H5Output::group(const std::string& name) {
  const Handle creation(must(H5Pcreate(H5P_GROUP_CREATE)), H5Pclose);
  must(set_plain_group(creation));
  Handle group(must(H5Gcreate2(file_, name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT)), H5Gclose,
               &abandoned_);
  must(group.close());
}

void H5Output::write_typed(const std::string& name, const Dims& dims, int64_t type, uint64_t item_bytes,
                           const std::string& stored_type,
                           const std::function<int(int64_t, const Extent&)>& write_data) {
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return;
  const std::vector<hsize_t> extent(dims.begin(), dims.end()), chunk = chunk_dims(extent, item_bytes);
  const Handle creation(must(H5Pcreate(H5P_DATASET_CREATE)), H5Pclose);
  must(H5Pset_obj_track_times(creation, false));
  must(H5Pset_chunk(creation, int(chunk.size()), chunk.data()));
  must(H5Pset_shuffle(creation));
  must(H5Pset_deflate(creation, kGzipLevel));
  must(H5Pset_fletcher32(creation));
  const Handle space(must(H5Screate_simple(int(extent.size()), extent.data(), nullptr)), H5Sclose);
  Handle set(must(H5Dcreate2(file_, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT)), H5Dclose,
             &abandoned_);
  if (!stored_type.empty()) put_text(set, "stored_type", stored_type);
  Extent whole{dims, Dims(chunk.begin(), chunk.end()), 1, item_bytes};
  for (const uint64_t d : dims) whole.n *= d;
  must(write_data(set, whole));
  must(set.close());
}

void H5Output::write_raw(const std::string& name, const Dims& dims, const void* data, H5Type type,
                         const std::string& stored_type) {
  write_typed(name, dims, number_type(type), item_bytes(type), stored_type,
              [&](int64_t set, const Extent& whole) {
                return write_chunks(set, whole, static_cast<const char*>(data), chunks_);
              });
}

void H5Output::write_packed(const std::string& name, const Dims& dims, H5Type type,
                            const std::string& stored_type, PackedChunks& from) {
  write_typed(
      name, dims, number_type(type), item_bytes(type), stored_type,
      [&](int64_t set, const Extent& whole) { return write_packed_chunks(set, whole, from, chunks_); });
}

void H5Output::write_strings(const std::string& name, const Dims& dims,
                             const std::vector<std::string>& values) {
  uint64_t n = 1;
  for (uint64_t d : dims) n *= d;
  check(values.size() == n, "number of strings");
  size_t bytes = 1;
  for (const std::string& v : values) {
    check(v.find('\0') == std::string::npos, "text with NUL in an HDF5 dataset");
    bytes = std::max(bytes, v.size());
  }
  if (bytes > kMaxTextBytes || n * bytes > kMaxStringsBytes)
    fail_output("{}: cannot write: {}: {} strings of up to {} bytes, allowed {} bytes each and {} in all",
                shown_, name, n, bytes, kMaxTextBytes, kMaxStringsBytes);
  std::string table(n * bytes, '\0');  // (n, bytes)
  for (size_t i = 0; i < values.size(); ++i)
    std::memcpy(table.data() + i * bytes, values[i].data(), values[i].size());
  write_typed(name, dims, text_type(bytes), bytes, "", [&](int64_t set, const Extent& whole) {
    return write_chunks(set, whole, table.data(), chunks_);
  });
}

void H5Output::finish() {
  must(H5Fflush(file_, H5F_SCOPE_GLOBAL));
  const int64_t one = 1;
  Handle complete(must(H5Aopen(file_, "complete", H5P_DEFAULT)), H5Aclose, &abandoned_);
  must(H5Awrite(complete, number_type(H5Type::i64), &one));
  must(complete.close());
  must(H5Fflush(file_, H5F_SCOPE_GLOBAL));  // so that close finds nothing to write that could fail
  must(H5Fclose(std::exchange(file_, -1)));
}

}  // namespace blockgtq
