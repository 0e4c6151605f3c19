#pragma once
#include "hf/config.h"
#include "hf/config_fields.h"

namespace blockgtq {

/// Each fills what its dialect spells in its own way into a Config that has model_type and the common sizes
/// (n_layers, hidden, n_heads).
void parse_chatglm(const ConfigFields& config, Config& out);
void parse_deepseek_v2(const ConfigFields& config, Config& out);
void parse_qwen3_experts(const ConfigFields& config, Config& out);

}  // namespace blockgtq
