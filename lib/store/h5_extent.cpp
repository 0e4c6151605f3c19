#include "store/h5_extent.h"

#include "base/checked.h"
#include "base/error.h"

namespace blockgtq {
namespace {

/// Deflate shrinks at most 1032 times. So we never wrote a file that claims more than this.
constexpr uint64_t kMaxInflation = 1100;

}  // namespace

std::string list(const Dims& dims) {
  std::string text;
  for (uint64_t d : dims) text += fmt::format("{}{}", text.empty() ? "" : " x ", d);
  return text.empty() ? "scalar" : text;
}

bool has_link(hid_t file, const std::string& path, const std::string& name) {
  const htri_t found = H5Lexists(file, name.c_str(), H5P_DEFAULT);
  if (found < 0) fail_input("{}: {}: cannot be read: {}", path, name, last_error());
  return found > 0;
}

Handle open_set(hid_t file, const std::string& path, const std::string& name) {
  for (size_t end = name.find('/'); true; end = name.find('/', end + 1)) {
    const std::string part = name.substr(0, end);
    H5L_info_t link;
    if (!has_link(file, path, part)) fail_input("{}: {}: missing", path, part);
    if (H5Lget_info(file, part.c_str(), &link, H5P_DEFAULT) < 0)
      fail_input("{}: {}: {}", path, part, last_error());
    if (link.type != H5L_TYPE_HARD)
      fail_input("{}: {}: a link to elsewhere, allowed are objects of this file", path, part);
    if (end == std::string::npos) break;
  }
  return read_handle(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose, path + ": " + name);
}

Extent extent_of(hid_t set, const std::string& where, uint64_t file_bytes) {
  const Handle space = read_handle(H5Dget_space(set), H5Sclose, where);
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank < 1) fail_input("{}: cannot be read: no dimensions", where);
  std::vector<hsize_t> dims(rank), chunk(rank);
  if (H5Sget_simple_extent_dims(space, dims.data(), nullptr) != rank)
    fail_input("{}: cannot be read: {}", where, last_error());
  const Handle creation = read_handle(H5Dget_create_plist(set), H5Pclose, where);
  const Handle type = read_handle(H5Dget_type(set), H5Tclose, where);
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

  Extent extent{{dims.begin(), dims.end()}, {chunk.begin(), chunk.end()}, 1, H5Tget_size(type)};
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

}  // namespace blockgtq
