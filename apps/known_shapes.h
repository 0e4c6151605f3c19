#pragma once
#include <string>

#include "hf/config.h"

namespace blockgtq {

/// The config of a well-known model ("qwen2.5-3b"); Exit::usage, with the names there are, for another.
Config known_shape(const std::string& name);
std::string known_shapes();  // "qwen2.5-3b, llama-3.1-8b, ..."

}  // namespace blockgtq
