#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/json.h"
#include "hf/gguf.h"
#include "hf/gguf_names.h"

namespace blockgtq {

/// A model in a GGUF file, or in the parts of a split one, in the form of a Hugging Face folder.
struct GgufModel {
  const GgufArchitecture* architecture = nullptr;
  Json config;  // config.json
  std::vector<MappedFile> parts;
  std::map<std::string, Tensor> tensors;  // by Hugging Face name; experts are separate tensors
  std::map<std::string, size_t> part_of;  // of each tensor
};

/// Opens all parts; of a split file `path` is the first. Reads no tensor but those of RoPE's factors. Errors
/// are Exit::input.
GgufModel open_gguf(const fs::path& path);

}  // namespace blockgtq
