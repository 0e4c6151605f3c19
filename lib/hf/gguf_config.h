#pragma once
#include <map>
#include <string>

#include "base/json.h"
#include "hf/gguf.h"
#include "hf/gguf_names.h"

namespace blockgtq {

/// The config.json that the file's model would have in a Hugging Face folder, as far as the file tells.
/// `tensors` are those of all parts, by the file's own names. Exit::input names the key that is missing, out
/// of range, or changes the computation in a way that is not supported.
Json gguf_config(const GgufArchitecture&, const GgufMetadata&, const std::map<std::string, Tensor>& tensors);

}  // namespace blockgtq
