#include "store/h5_input.h"

#include <sys/stat.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "store/h5_handle.h"
#include "store/schema.h"

namespace blockgtq {
namespace {

/// Deflate shrinks at most 1032 times: a file that claims more was never written by us.
constexpr uint64_t kMaxInflation = 1100;

std::string list(const Dims& dims) {
  std::string text;
  for (uint64_t d : dims) text += fmt::format("{}{}", text.empty() ? "" : " x ", d);
  return text.empty() ? "scalar" : text;
}

/// The dataset `name`, opened after checking that no part of its path leads out of the file.
Handle open_set(hid_t file, const std::string& path, const std::string& name) {
  for (size_t end = name.find('/'); true; end = name.find('/', end + 1)) {
    const std::string part = name.substr(0, end);
    H5L_info_t link;
    if (H5Lexists(file, part.c_str(), H5P_DEFAULT) <= 0) fail_input("{}: {}: missing", path, part);
    if (H5Lget_info(file, part.c_str(), &link, H5P_DEFAULT) < 0)
      fail_input("{}: {}: {}", path, part, last_error());
    if (link.type != H5L_TYPE_HARD)
      fail_input("{}: {}: a link to elsewhere, allowed are objects of this file", path, part);
    if (end == std::string::npos) break;
  }
  const hid_t set = H5Dopen2(file, name.c_str(), H5P_DEFAULT);
  if (set < 0) fail_input("{}: {}: cannot be read: {}", path, name, last_error());
  return Handle(set, H5Dclose);
}

struct Extent {
  Dims dims;
  uint64_t n = 1;           // elements
  uint64_t item_bytes = 0;  // of one
};

/// Dimensions, after checking that the dataset is stored as ours are: these filters, small chunks, all of
/// them there, not more than the file can hold.
Extent extent_of(hid_t set, const std::string& where, uint64_t file_bytes) {
  const Handle space(H5Dget_space(set), H5Sclose);
  const int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
  if (rank < 1) fail_input("{}: cannot be read: no dimensions", where);
  std::vector<hsize_t> dims(rank), chunk(rank);
  const Handle creation(H5Dget_create_plist(set), H5Pclose);
  const Handle type(H5Dget_type(set), H5Tclose);
  if (H5Sget_simple_extent_dims(space, dims.data(), nullptr) != rank || creation < 0 || type < 0)
    fail_input("{}: cannot be read: {}", where, last_error());
  if (H5Pget_layout(creation) != H5D_CHUNKED || H5Pget_chunk(creation, rank, chunk.data()) != rank)
    fail_input("{}: not stored in chunks", where);
  const std::vector<H5Z_filter_t> ours = {H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE, H5Z_FILTER_FLETCHER32};
  std::vector<H5Z_filter_t> filters;
  for (int i = 0; i < H5Pget_nfilters(creation); ++i) {
    unsigned flags = 0, config = 0;
    size_t n_values = 0;
    filters.push_back(H5Pget_filter2(creation, unsigned(i), &flags, &n_values, nullptr, 0, nullptr, &config));
  }
  if (filters != ours) fail_input("{}: not stored with shuffle, gzip and fletcher32", where);

  Extent extent{{dims.begin(), dims.end()}, 1, H5Tget_size(type)};
  uint64_t n_chunks = 1, chunk_items = 1;
  for (int i = 0; i < rank; ++i) {
    if (chunk[i] == 0) fail_input("{}: not stored in chunks", where);
    extent.n = checked_mul(extent.n, dims[i], where);
    chunk_items = checked_mul(chunk_items, chunk[i], where);
    n_chunks = checked_mul(n_chunks, dims[i] / chunk[i] + (dims[i] % chunk[i] != 0), where);
  }
  if (checked_mul(chunk_items, extent.item_bytes, where) > kMaxChunkBytes && chunk_items > 1)
    fail_input("{}: HDF5 chunks of {} x {} bytes, allowed {}", where, chunk_items, extent.item_bytes,
               kMaxChunkBytes);
  const uint64_t bytes = checked_mul(extent.n, extent.item_bytes, where);
  if (bytes / kMaxInflation > file_bytes)
    fail_input("{}: {} bytes of data in a file of {} bytes", where, bytes, file_bytes);
  hsize_t present = 0;
  if (H5Dget_num_chunks(set, space, &present) < 0) fail_input("{}: cannot be read: {}", where, last_error());
  if (present != n_chunks) fail_input("{}: {} chunks of data, allowed {}", where, present, n_chunks);
  return extent;
}

bool is_fixed_text(hid_t type) {
  return type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0;
}

/// A string up to its padding.
std::string unpad(const char* text, size_t bytes) {
  return std::string(text, strnlen(text, bytes));
}

}  // namespace

H5Input::File::~File() {
  if (id >= 0) H5Fclose(id);
}

H5Input::H5Input(const fs::path& path) : path_(path) {
  prepare_hdf5();
  struct stat status;
  if (stat(path_.c_str(), &status) != 0)
    fail_input("{}: cannot open: {}", this->path(), std::strerror(errno));
  if (!S_ISREG(status.st_mode)) fail_input("{}: not a regular file", this->path());
  file_bytes_ = uint64_t(status.st_size);
  const Handle access = file_access();
  file_.id = H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access);
  if (file_.id < 0) fail_input("{}: not a complete HDF5 file: {}", this->path(), last_error());
  if (H5Aexists(file_.id, "schema") <= 0)
    fail_input("{}: not one of our files: attribute schema is missing", this->path());
  schema_ = get_text("schema");
  get_int("schema_version", 1, kNewestSchemaVersion);
  if (get_int("complete", 0, 1) == 0) fail_input("{}: was never completed", this->path());
}

H5Input::H5Input(const fs::path& path, const std::string& schema, int64_t newest) : H5Input(path) {
  if (schema_ != schema)
    fail_input("{}: schema: {}, allowed {}", path_.string(), schema_.substr(0, 100), schema);
  get_int("schema_version", 1, newest);
}

H5Input::~H5Input() = default;

void H5Input::get_scalar(const std::string& name, H5Type type, void* value) const {
  if (H5Aexists(file_.id, name.c_str()) <= 0) fail_input("{}: attribute {} is missing", path(), name);
  const Handle attribute(H5Aopen(file_.id, name.c_str(), H5P_DEFAULT), H5Aclose);
  const Handle found(attribute < 0 ? -1 : H5Aget_type(attribute), H5Tclose);
  const Handle space(attribute < 0 ? -1 : H5Aget_space(attribute), H5Sclose);
  if (found < 0 || space < 0) fail_input("{}: {}: cannot be read: {}", path(), name, last_error());
  const Handle expected = number_type(type);
  if (H5Tequal(found, expected) <= 0 || H5Sget_simple_extent_type(space) != H5S_SCALAR)
    fail_input("{}: attribute {} is not the number it should be", path(), name);
  if (H5Aread(attribute, expected, value) < 0)
    fail_input("{}: {}: cannot be read: {}", path(), name, last_error());
}

int64_t H5Input::get_int(const std::string& name, int64_t low, int64_t high) const {
  int64_t value = 0;
  get_scalar(name, H5Type::i64, &value);
  if (value < low || value > high) fail_input("{}: {}: {}, allowed {} to {}", path(), name, value, low, high);
  return value;
}

uint64_t H5Input::get_u64(const std::string& name) const {
  uint64_t value = 0;
  get_scalar(name, H5Type::u64, &value);
  return value;
}

double H5Input::get_real(const std::string& name) const {
  double value = 0;
  get_scalar(name, H5Type::f64, &value);
  if (!std::isfinite(value)) fail_input("{}: {}: {}, allowed finite numbers", path(), name, value);
  return value;
}

std::string H5Input::get_text(const std::string& name) const {
  if (H5Aexists(file_.id, name.c_str()) <= 0) fail_input("{}: attribute {} is missing", path(), name);
  const Handle attribute(H5Aopen(file_.id, name.c_str(), H5P_DEFAULT), H5Aclose);
  const Handle type(attribute < 0 ? -1 : H5Aget_type(attribute), H5Tclose);
  const Handle space(attribute < 0 ? -1 : H5Aget_space(attribute), H5Sclose);
  if (type < 0 || space < 0) fail_input("{}: {}: cannot be read: {}", path(), name, last_error());
  if (!is_fixed_text(type) || H5Sget_simple_extent_type(space) != H5S_SCALAR)
    fail_input("{}: attribute {} is not a text of fixed length", path(), name);
  const size_t bytes = H5Tget_size(type);
  if (bytes > kMaxAttributeBytes)
    fail_input("{}: {}: {} bytes of text, allowed {}", path(), name, bytes, kMaxAttributeBytes);
  std::string text(bytes, '\0');
  if (H5Aread(attribute, type, text.data()) < 0)
    fail_input("{}: {}: cannot be read: {}", path(), name, last_error());
  return unpad(text.data(), bytes);
}

void H5Input::expect_text(const std::string& name, const std::string& allowed) const {
  const std::string found = get_text(name);
  if (found != allowed) fail_input("{}: {}: {}, allowed {}", path(), name, found.substr(0, 100), allowed);
}

bool H5Input::has(const std::string& name) const {
  return H5Lexists(file_.id, name.c_str(), H5P_DEFAULT) > 0;
}

Dims H5Input::dims(const std::string& name, size_t rank) const {
  const Handle set = open_set(file_.id, path(), name);
  const Dims dims = extent_of(set, path() + ": " + name, file_bytes_).dims;
  if (dims.size() != rank) fail_input("{}: {}: {}, allowed {} dimensions", path(), name, list(dims), rank);
  return dims;
}

uint64_t H5Input::check_array(const std::string& name, const Dims& dims, H5Type type) const {
  for (uint64_t d : dims)
    if (d == 0) return 0;
  const Handle set = open_set(file_.id, path(), name);
  const Extent extent = extent_of(set, path() + ": " + name, file_bytes_);
  if (extent.dims != dims) fail_input("{}: {}: {}, allowed {}", path(), name, list(extent.dims), list(dims));
  const Handle found(H5Dget_type(set), H5Tclose), expected = number_type(type);
  if (H5Tequal(found, expected) <= 0)
    fail_input("{}: {}: not of the number type that it should be", path(), name);
  return extent.n;
}

void H5Input::read_raw(const std::string& name, void* data, H5Type type) const {
  const Handle set = open_set(file_.id, path(), name);
  if (H5Dread(set, number_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
    fail_input("{}: {}: cannot be read: {}", path(), name, last_error());
}

std::vector<std::string> H5Input::read_strings(const std::string& name, const Dims& dims) const {
  for (uint64_t d : dims)
    if (d == 0) return {};
  const Handle set = open_set(file_.id, path(), name);
  const Extent extent = extent_of(set, path() + ": " + name, file_bytes_);
  if (extent.dims != dims) fail_input("{}: {}: {}, allowed {}", path(), name, list(extent.dims), list(dims));
  const Handle type(H5Dget_type(set), H5Tclose);
  if (!is_fixed_text(type)) fail_input("{}: {}: not texts of fixed length", path(), name);
  const uint64_t bytes = extent.item_bytes;
  if (bytes > kMaxTextBytes || checked_mul(extent.n, bytes, name) > kMaxStringsBytes)
    fail_input("{}: {}: {} texts of {} bytes, allowed {} bytes each and {} in all", path(), name, extent.n,
               bytes, kMaxTextBytes, kMaxStringsBytes);
  std::string table(extent.n * bytes, '\0');
  if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, table.data()) < 0)
    fail_input("{}: {}: cannot be read: {}", path(), name, last_error());
  std::vector<std::string> values;
  for (uint64_t i = 0; i < extent.n; ++i) values.push_back(unpad(table.data() + i * bytes, bytes));
  return values;
}

}  // namespace blockgtq
