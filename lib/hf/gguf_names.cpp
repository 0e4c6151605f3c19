// Names of architectures and tensors. Sources: llama.cpp, gguf-py/gguf/tensor_mapping.py and conversion/*.py.
#include "hf/gguf_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "hf/config_fields.h"

namespace blockgtq {

namespace {

constexpr GgufName kMixtral[] = {
    {"blk.%.ffn_gate_inp", "model.layers.%.block_sparse_moe.gate"},
    {"blk.%.ffn_gate_exps", "model.layers.%.block_sparse_moe.experts.%.w1"},
    {"blk.%.ffn_up_exps", "model.layers.%.block_sparse_moe.experts.%.w3"},
    {"blk.%.ffn_down_exps", "model.layers.%.block_sparse_moe.experts.%.w2"},
};

constexpr GgufName kQwen2Moe[] = {
    {"blk.%.ffn_gate_inp_shexp", "model.layers.%.mlp.shared_expert_gate"},
    {"blk.%.ffn_gate_shexp", "model.layers.%.mlp.shared_expert.gate_proj"},
    {"blk.%.ffn_up_shexp", "model.layers.%.mlp.shared_expert.up_proj"},
    {"blk.%.ffn_down_shexp", "model.layers.%.mlp.shared_expert.down_proj"},
};

constexpr GgufName kOlmo2[] = {
    {"blk.%.post_attention_norm", "model.layers.%.post_attention_layernorm"},
    {"blk.%.post_ffw_norm", "model.layers.%.post_feedforward_layernorm"},
};

constexpr GgufName kGemma[] = {
    {"blk.%.post_attention_norm", "model.layers.%.post_attention_layernorm"},
    {"blk.%.ffn_norm", "model.layers.%.pre_feedforward_layernorm"},
    {"blk.%.post_ffw_norm", "model.layers.%.post_feedforward_layernorm"},
};

constexpr GgufName kGptOss[] = {
    {"blk.%.post_attention_norm", "model.layers.%.post_attention_layernorm"},
    {"blk.%.attn_sinks.weight", "model.layers.%.self_attn.sinks"},
    {"blk.%.ffn_gate_inp", "model.layers.%.mlp.router"},
};

constexpr GgufName kPhi3[] = {
    {"blk.%.attn_qkv", "model.layers.%.self_attn.qkv_proj"},
    {"blk.%.ffn_up", "model.layers.%.mlp.gate_up_proj"},
};

// Where rows of q and k are paired: conversion/llama.py (LlamaModel.permute) and what inherits from it. The
// others rotate halves: src/llama-model.cpp (llama_model_rope_type).
constexpr GgufArchitecture kArchitectures[] = {
    {.name = "llama", .model_type = "llama", .class_name = "LlamaForCausalLM", .paired_rows = true},
    {.name = "qwen2", .model_type = "qwen2", .class_name = "Qwen2ForCausalLM"},
    {.name = "qwen3", .model_type = "qwen3", .class_name = "Qwen3ForCausalLM"},
    {.name = "qwen3moe", .model_type = "qwen3_moe", .class_name = "Qwen3MoeForCausalLM"},
    {.name = "llama",
     .model_type = "mixtral",
     .class_name = "MixtralForCausalLM",
     .paired_rows = true,
     .with_experts = true,
     .own_names = kMixtral},
    {.name = "qwen2moe",
     .model_type = "qwen2_moe",
     .class_name = "Qwen2MoeForCausalLM",
     .own_names = kQwen2Moe},
    {.name = "olmo2", .model_type = "olmo2", .class_name = "Olmo2ForCausalLM", .own_names = kOlmo2},
    {.name = "smollm3", .model_type = "smollm3", .class_name = "SmolLM3ForCausalLM", .paired_rows = true},
    // conversion/gemma.py (modify_tensors) adds 1 to every norm.
    {.name = "gemma2",
     .model_type = "gemma2",
     .class_name = "Gemma2ForCausalLM",
     .whole_norms = true,
     .own_names = kGemma},
    {.name = "gemma3",
     .model_type = "gemma3_text",
     .class_name = "Gemma3ForCausalLM",
     .whole_norms = true,
     .own_names = kGemma},
    {.name = "gpt-oss", .model_type = "gpt_oss", .class_name = "GptOssForCausalLM", .own_names = kGptOss},
    {.name = "phi3", .model_type = "phi3", .class_name = "Phi3ForCausalLM", .own_names = kPhi3},
    {.name = "granite", .model_type = "granite", .class_name = "GraniteForCausalLM", .paired_rows = true},
};

constexpr GgufName kNames[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
    {"blk.%.attn_norm", "model.layers.%.input_layernorm"},
    {"blk.%.ffn_norm", "model.layers.%.post_attention_layernorm"},
    {"blk.%.attn_q", "model.layers.%.self_attn.q_proj"},
    {"blk.%.attn_k", "model.layers.%.self_attn.k_proj"},
    {"blk.%.attn_v", "model.layers.%.self_attn.v_proj"},
    {"blk.%.attn_output", "model.layers.%.self_attn.o_proj"},
    {"blk.%.attn_q_norm", "model.layers.%.self_attn.q_norm"},
    {"blk.%.attn_k_norm", "model.layers.%.self_attn.k_norm"},
    {"blk.%.ffn_gate", "model.layers.%.mlp.gate_proj"},
    {"blk.%.ffn_up", "model.layers.%.mlp.up_proj"},
    {"blk.%.ffn_down", "model.layers.%.mlp.down_proj"},
    {"blk.%.ffn_gate_inp", "model.layers.%.mlp.gate"},
    {"blk.%.ffn_gate_exps", "model.layers.%.mlp.experts.%.gate_proj"},
    {"blk.%.ffn_up_exps", "model.layers.%.mlp.experts.%.up_proj"},
    {"blk.%.ffn_down_exps", "model.layers.%.mlp.experts.%.down_proj"},
};

/// Reads the number at `at`, without leading zeros, and advances past it; -1 where there is none.
int read_number(const std::string& text, size_t& at) {
  int out = -1;
  const char *begin = text.data() + at, *end = text.data() + text.size();
  if (begin == end || *begin < '0' || *begin > '9' || (*begin == '0' && begin + 1 != end && begin[1] != '.'))
    return -1;
  const auto [stop, error] = std::from_chars(begin, end, out);
  if (error != std::errc()) return -1;
  at += size_t(stop - begin);
  return out;
}

/// The numbers in place of the pattern's "%"; none where the name does not match.
std::optional<std::vector<int>> match(const std::string& pattern, const std::string& name) {
  std::vector<int> numbers;
  size_t at = 0;
  for (const char c : pattern) {
    if (c == '%') {
      numbers.push_back(read_number(name, at));
      if (numbers.back() < 0) return std::nullopt;
    } else if (at == name.size() || name[at++] != c) {
      return std::nullopt;
    }
  }
  if (at != name.size()) return std::nullopt;
  return numbers;
}

/// The pattern with its "%" replaced in order, as long as there are numbers.
std::string fill(std::string pattern, const std::vector<int>& numbers) {
  for (const int n : numbers) {
    const size_t at = pattern.find('%');
    if (at == std::string::npos) break;
    pattern.replace(at, 1, std::to_string(n));
  }
  return pattern;
}

using Side = const char* GgufName::*;

/// Translates by the names of one table.
std::optional<std::string> translate(std::span<const GgufName> names, const std::string& name, Side from,
                                     Side to) {
  for (const std::string ending : {"", ".weight", ".bias"}) {
    if (!name.ends_with(ending)) continue;
    const std::string stem = name.substr(0, name.size() - ending.size());
    for (const GgufName& pair : names) {
      const auto numbers = match(pair.*from, stem);
      if (!numbers) continue;
      const std::string to_name = pair.*to;
      const bool fused = numbers->size() > size_t(std::count(to_name.begin(), to_name.end(), '%'));
      return fill(to_name, *numbers) + ending + (fused ? fmt::format(", expert {}", numbers->back()) : "");
    }
  }
  return std::nullopt;
}

std::optional<std::string> translate(const GgufArchitecture& architecture, const std::string& name, Side from,
                                     Side to) {
  if (auto own = translate(architecture.own_names, name, from, to)) return own;
  return translate(kNames, name, from, to);
}

}  // namespace

const GgufArchitecture& find_gguf_architecture(const std::string& name, bool has_experts,
                                               const std::string& file) {
  std::string known;
  const GgufArchitecture* found = nullptr;
  for (const GgufArchitecture& a : kArchitectures) {
    if (name == a.name && (!found || has_experts)) found = &a;
    if (!a.with_experts) known += (known.empty() ? "" : ", ") + std::string(a.name);
  }
  if (found) return *found;
  fail_input("{}: general.architecture: {} is not supported: {}", file, shown(name), known);
}

std::optional<std::string> hf_tensor_name(const GgufArchitecture& architecture,
                                          const std::string& gguf_name) {
  return translate(architecture, gguf_name, &GgufName::gguf, &GgufName::hf);
}

std::string gguf_tensor_name(const GgufArchitecture& architecture, const std::string& hf_name) {
  return translate(architecture, hf_name, &GgufName::hf, &GgufName::gguf).value_or(hf_name);
}

}  // namespace blockgtq
