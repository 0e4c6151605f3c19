#pragma once
#include <string>

#include "base/file.h"

namespace blockgtq {

/// The text of a model's config.json: from its folder, or made by gguf_config() from its GGUF file.
std::string config_text(const fs::path& model);

}  // namespace blockgtq
