#pragma once
#include <string>

#include "base/file.h"

namespace blockgtq {

/// A model's config.json: of its folder, or what gguf_config() makes of its GGUF file's metadata.
std::string config_text(const fs::path& model);

}  // namespace blockgtq
