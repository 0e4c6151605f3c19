// Names of architectures and tensors. Source: gguf-py/gguf/tensor_mapping.py and convert_hf_to_gguf.py of
// llama.cpp.
#include "hf/gguf_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "hf/config_fields.h"

namespace blockgtq {

namespace {

constexpr std::array<GgufArchitecture, 4> kArchitectures = {{
    {"llama", "llama", "LlamaForCausalLM", true},
    {"qwen2", "qwen2", "Qwen2ForCausalLM", false},
    {"qwen3", "qwen3", "Qwen3ForCausalLM", false},
    {"qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM", false},
}};

/// Names without ".weight" and ".bias"; "%" stands for a number: of the layer, then of the expert.
struct Pair {
  const char *gguf, *hf;
};

constexpr std::array<Pair, 18> kNames = {{
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
}};

/// The number at `at`, without leading zeros, and past it; -1 where there is none.
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

/// The numbers where `pattern` has "%"; nothing when the name is another.
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

/// The pattern with the first "%" replaced, as far as there are numbers.
std::string fill(std::string pattern, const std::vector<int>& numbers) {
  for (const int n : numbers) {
    const size_t at = pattern.find('%');
    if (at == std::string::npos) break;
    pattern.replace(at, 1, std::to_string(n));
  }
  return pattern;
}

std::optional<std::string> translate(const std::string& name, const char* Pair::*from,
                                     const char* Pair::*to) {
  for (const std::string ending : {".weight", ".bias"}) {
    if (!name.ends_with(ending)) continue;
    const std::string stem = name.substr(0, name.size() - ending.size());
    for (const Pair& pair : kNames) {
      const auto numbers = match(pair.*from, stem);
      if (!numbers) continue;
      const std::string to_name = pair.*to;
      const bool fused = numbers->size() > size_t(std::count(to_name.begin(), to_name.end(), '%'));
      return fill(to_name, *numbers) + ending + (fused ? fmt::format(", expert {}", numbers->back()) : "");
    }
  }
  return std::nullopt;
}

}  // namespace

const GgufArchitecture& find_gguf_architecture(const std::string& name, const std::string& file) {
  std::string known;
  for (const GgufArchitecture& a : kArchitectures) {
    if (name == a.name) return a;
    known += (known.empty() ? "" : ", ") + std::string(a.name);
  }
  fail_input("{}: general.architecture: {} is not supported: {}", file, shown(name), known);
}

std::optional<std::string> hf_tensor_name(const GgufArchitecture&, const std::string& gguf_name) {
  return translate(gguf_name, &Pair::gguf, &Pair::hf);
}

std::string gguf_tensor_name(const GgufArchitecture&, const std::string& hf_name) {
  return translate(hf_name, &Pair::hf, &Pair::gguf).value_or(hf_name);
}

}  // namespace blockgtq
