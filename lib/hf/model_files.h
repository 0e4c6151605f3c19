#pragma once
#include <string>

#include "base/file.h"

namespace blockgtq {

inline constexpr size_t kMaxTensors = size_t(1) << 19;  // of a model, all its files together

/// A model's config.json: of its folder, or what gguf_config() makes of its GGUF file's metadata.
std::string config_text(const fs::path& model);

}  // namespace blockgtq
