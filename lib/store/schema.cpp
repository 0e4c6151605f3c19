#include "store/schema.h"

#include "base/error.h"
#include "store/h5_input.h"

namespace blockgtq {

bool is_hdf5(const fs::path& path) {
  return MappedFile(path).text().starts_with("\x89HDF\r\n\x1a\n");
}

std::string read_schema(const fs::path& path) {
  return H5Input(path).schema();
}

}  // namespace blockgtq
