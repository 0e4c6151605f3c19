#pragma once
#include "hf/config.h"
#include "hf/config_fields.h"
#include "hf/families.h"

namespace blockgtq {

/// Each reads a part of the config into `out`; Exit::input names the field that is wrong or not supported.
/// This one reads ChatGLM's sizes, biases and RoPE.
void parse_chatglm(const ConfigFields& config, Config& out);
/// Latent attention of DeepSeek-V2 and V3.
void parse_latent(const ConfigFields& config, Config& out);
/// Per layer: windows, RoPE or none, delta nets; and the RoPE itself.
void parse_layers(const ConfigFields& config, const Family& family, Config& out);
/// Which layers have experts, and how these are chosen and stored.
void parse_experts(const ConfigFields& config, const Family& family, Config& out);

/// Exit::input unless a setting has its one supported value: it changes the computation.
void require_flag(const ConfigFields& config, const std::string& key, bool fallback, bool supported);

}  // namespace blockgtq
