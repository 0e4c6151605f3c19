#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace blockgtq {

/// A prompt of a list, and what it has that is not as the others have it.
struct ListedPrompt {
  std::string where;                // "FILE: line 3", for messages
  Json id;                          // the line's own, or its number
  std::optional<std::string> text;  // or
  std::vector<int32_t> ids;         // token ids
  std::optional<int64_t> tokens;    // to write at most
  std::optional<uint64_t> seed;
  std::optional<std::vector<std::string>> stop;
};

/// The JSON lines of a file, "-" for standard input; empty lines count and are passed over:
///
///   {"prompt": "text", "id": "a", "n": 64, "seed": 1, "stop": ["\n"]}     "ids": [1, 2] in prompt's place
///
/// Exit::input names the first line that is none of these.
std::vector<ListedPrompt> read_prompts(const fs::path& file);

}  // namespace blockgtq
