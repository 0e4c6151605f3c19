// Reads everything that a reader of ours may ask a file for, once, chunk by chunk, whatever the content.
// Chunks are
// not inflated: that is read_chunks()'s part, which no data can harm.
#include <vector>

#include "base/error.h"
#include "store/h5_chunks.h"
#include "store/h5_input.h"

namespace blockgtq {
namespace {

constexpr int kDepth = 3;  // layerNN/headNN/k
constexpr size_t kMaxName = 1000;

void survey_attributes(hid_t file) {
  std::vector<char> value;
  for (hsize_t i = 0; true; ++i) {
    const Handle attribute(H5Aopen_by_idx(file, ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT),
                           H5Aclose);
    if (attribute < 0) return;
    const Handle type(H5Aget_type(attribute), H5Tclose), space(H5Aget_space(attribute), H5Sclose);
    if (type < 0 || space < 0 || H5Sget_simple_extent_type(space) != H5S_SCALAR) continue;
    const H5T_class_t kind = H5Tget_class(type);
    if (kind != H5T_INTEGER && kind != H5T_FLOAT && !is_fixed_text(type)) continue;
    const size_t bytes = H5Tget_size(type);
    if (bytes > kMaxAttributeBytes) continue;
    value.resize(bytes);
    H5Aread(attribute, type, value.data());
  }
}

void survey_set(hid_t file, const std::string& path, const std::string& name, uint64_t file_bytes) {
  const Handle set = open_set(file, path, name);
  const std::string where = path + ": " + name;
  Extent extent;
  try {
    extent = extent_of(set, where, file_bytes);
  } catch (const Error&) {
    return;  // not a dataset of ours; a reader that wants it reports it
  }
  const Handle type(H5Dget_type(set), H5Tclose);
  const H5T_class_t kind = H5Tget_class(type);
  if (kind != H5T_INTEGER && kind != H5T_FLOAT && !is_fixed_text(type)) return;
  if (extent.item_bytes <= kMaxTextBytes) for_each_chunk(set, extent, where, [](const StoredChunk&) {});
}

void survey_group(hid_t file, const std::string& path, const std::string& group, uint64_t file_bytes,
                  int depth) {
  char name[kMaxName];
  for (hsize_t i = 0; true; ++i) {
    const ssize_t n = H5Lget_name_by_idx(file, group.empty() ? "." : group.c_str(), H5_INDEX_NAME,
                                         H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
    if (n < 0) return;
    if (size_t(n) >= sizeof name) continue;
    const std::string full = group.empty() ? name : group + "/" + name;
    H5L_info_t link;
    if (H5Lget_info(file, full.c_str(), &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD) continue;
    const Handle object(H5Oopen(file, full.c_str(), H5P_DEFAULT), H5Oclose);
    const H5I_type_t kind = object < 0 ? H5I_BADID : H5Iget_type(object);
    if (kind == H5I_DATASET) survey_set(file, path, full, file_bytes);
    if (kind == H5I_GROUP && depth < kDepth) survey_group(file, path, full, file_bytes, depth + 1);
  }
}

}  // namespace

void H5Input::survey() const {
  survey_attributes(file_.id);
  survey_group(file_.id, path(), "", file_bytes_, 1);
}

}  // namespace blockgtq
