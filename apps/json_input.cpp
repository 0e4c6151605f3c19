#include "json_input.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "hf/text_source.h"

namespace blockgtq {

Json read_json_input(const fs::path& path, size_t max_bytes) {
  const TextSource source(path, max_bytes);
  if (source.is_cut()) fail_input("{}: file too large: at most {} bytes", source.name(), max_bytes);
  return parse_json(source.text(), source.name());
}

}  // namespace blockgtq
