#pragma once
#include <map>
#include <string>

#include "base/json.h"
#include "hf/gguf_keys.h"
#include "hf/gguf_names.h"

namespace blockgtq {

/// Whether the tensor holds factors of RoPE's frequencies, which belong to the config, not weights.
bool is_rope_tensor(const std::string& gguf_name);

/// The rope_parameters of config.json. `tensors` are those of all parts, by the file's own names. Exit::input
/// names the key or tensor that is out of range or not supported.
Json gguf_rope_parameters(const GgufArchitecture&, const GgufKeys&,
                          const std::map<std::string, Tensor>& tensors, int64_t head_dim);

}  // namespace blockgtq
