#pragma once
#include <string>
#include <vector>

#include "hf/config.h"
#include "hf/config_fields.h"

namespace blockgtq {

inline constexpr const char* kUnquantizedHint = "take the unquantized model, or a GGUF file of it";

/// How the weights are stored, from quantization_config. Exit::input names what is not supported, with a hint
/// what to use instead. What concerns activations or the cache is added to `remarks`, one line.
QuantizedConfig parse_quantization(const ConfigFields& config, std::vector<std::string>& remarks);

}  // namespace blockgtq
