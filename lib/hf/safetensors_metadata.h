#pragma once
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"

namespace blockgtq {

/// The texts under __metadata__ of a file that read_safetensors() has taken, in the file's order.
std::vector<std::pair<std::string, std::string>> safetensors_metadata(const MappedFile& file);

}  // namespace blockgtq
