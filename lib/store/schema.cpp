#include "store/schema.h"

#include "base/error.h"
#include "store/h5_input.h"

namespace blockgtq {

std::string read_schema(const fs::path& path) {
  return H5Input(path).schema();
}

}  // namespace blockgtq
