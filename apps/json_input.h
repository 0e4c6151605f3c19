#pragma once
#include <filesystem>

#include "base/json.h"

namespace blockgtq {

/// A JSON document of at most max_bytes: a file, a pipe, or standard input ("-"). Exit::input.
Json read_json_input(const std::filesystem::path& path, size_t max_bytes);

}  // namespace blockgtq
