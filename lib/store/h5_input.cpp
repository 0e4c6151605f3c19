#include "store/h5_input.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/file_state.h"
#include "store/h5_chunks.h"
#include "store/h5_guard.h"
#include "store/schema.h"

namespace blockgtq {
namespace {

/// Whether there is this attribute. Exit::input where HDF5 cannot tell.
bool has_attribute(hid_t file, const std::string& path, const std::string& name) {
  const htri_t found = H5Aexists(file, name.c_str());
  if (found < 0) fail_input("{}: {}: cannot be read: {}", path, name, last_error());
  return found > 0;
}

/// A string up to its padding.
std::string unpad(const char* text, size_t bytes) {
  return std::string(text, strnlen(text, bytes));
}

}  // namespace

void H5Input::File::close() {
  if (id >= 0) H5Fclose(std::exchange(id, -1));
}

H5Input::H5Input(const fs::path& path) : path_(path) {
  prepare_hdf5();
  try_in_child(path_, [this] {
    open();
    survey();
    file_.close();
  });
  open();
}

void H5Input::open() {
  file_bytes_ = file_state(path_).bytes;
  const Handle access = file_access();
  file_.id = H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access);
  if (file_.id < 0) fail_input("{}: not a complete HDF5 file: {}", this->path(), last_error());
  if (!has_attribute(file_.id, this->path(), "schema"))
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
  if (!has_attribute(file_.id, path(), name)) fail_input("{}: attribute {} is missing", path(), name);
  const std::string where = path() + ": " + name;
  const Handle attribute = read_handle(H5Aopen(file_.id, name.c_str(), H5P_DEFAULT), H5Aclose, where);
  const Handle found = read_handle(H5Aget_type(attribute), H5Tclose, where);
  const Handle space = read_handle(H5Aget_space(attribute), H5Sclose, where);
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
  if (!has_attribute(file_.id, path(), name)) fail_input("{}: attribute {} is missing", path(), name);
  const std::string where = path() + ": " + name;
  const Handle attribute = read_handle(H5Aopen(file_.id, name.c_str(), H5P_DEFAULT), H5Aclose, where);
  const Handle type = read_handle(H5Aget_type(attribute), H5Tclose, where);
  const Handle space = read_handle(H5Aget_space(attribute), H5Sclose, where);
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
  for (size_t end = name.find('/'); end != std::string::npos; end = name.find('/', end + 1))
    if (!has_link(file_.id, path(), name.substr(0, end))) return false;
  return has_link(file_.id, path(), name);
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
  const std::string where = path() + ": " + name;
  const Extent extent = extent_of(set, where, file_bytes_);
  if (extent.dims != dims) fail_input("{}: {}, allowed {}", where, list(extent.dims), list(dims));
  const Handle found = read_handle(H5Dget_type(set), H5Tclose, where), expected = number_type(type);
  if (H5Tequal(found, expected) <= 0)
    fail_input("{}: {}: not of the number type that it should be", path(), name);
  return extent.n;
}

void H5Input::read_raw(const std::string& name, void* data) const {
  const Handle set = open_set(file_.id, path(), name);
  const std::string where = path() + ": " + name;
  read_chunks(set, extent_of(set, where, file_bytes_), where, static_cast<char*>(data));
}

std::vector<std::string> H5Input::read_strings(const std::string& name, const Dims& dims) const {
  for (uint64_t d : dims)
    if (d == 0) return {};
  const Handle set = open_set(file_.id, path(), name);
  const std::string where = path() + ": " + name;
  const Extent extent = extent_of(set, where, file_bytes_);
  if (extent.dims != dims) fail_input("{}: {}, allowed {}", where, list(extent.dims), list(dims));
  const Handle type = read_handle(H5Dget_type(set), H5Tclose, where);
  if (!is_fixed_text(type)) fail_input("{}: {}: not texts of fixed length", path(), name);
  const uint64_t bytes = extent.item_bytes;
  if (bytes > kMaxTextBytes || checked_mul(extent.n, bytes, name) > kMaxStringsBytes)
    fail_input("{}: {}: {} texts of {} bytes, allowed {} bytes each and {} in all", path(), name, extent.n,
               bytes, kMaxTextBytes, kMaxStringsBytes);
  std::string table(extent.n * bytes, '\0');
  read_chunks(set, extent, where, table.data());
  std::vector<std::string> values;
  for (uint64_t i = 0; i < extent.n; ++i) values.push_back(unpad(table.data() + i * bytes, bytes));
  return values;
}

}  // namespace blockgtq
