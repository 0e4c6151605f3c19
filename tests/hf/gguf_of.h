// The GGUF file that llama.cpp's converter would make of one of the small trained models.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "base/float16.h"
#include "hf/gguf_builder.h"

namespace blockgtq::test {

struct Stored {
  std::string dtype;
  std::vector<uint64_t> shape;
  std::string bytes;
};

inline std::string file_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

inline std::map<std::string, Stored> stored_tensors(const fs::path& folder) {
  const std::string file = file_bytes(folder / "model.safetensors");
  uint64_t n = 0;
  std::memcpy(&n, file.data(), sizeof n);
  std::map<std::string, Stored> out;
  const nlohmann::json header = nlohmann::json::parse(file.substr(8, n));
  for (const auto& [name, t] : header.items()) {
    if (name == "__metadata__") continue;
    const uint64_t begin = t["data_offsets"][0], end = t["data_offsets"][1];
    out[name] = {t["dtype"], t["shape"], file.substr(8 + n + begin, end - begin)};
  }
  return out;
}

/// Rows (h, half, i) of a head as the converter lays them: (h, i, half).
inline std::string paired(const std::string& bytes, uint64_t rows, uint64_t head) {
  const uint64_t row = bytes.size() / rows;
  std::string out;
  for (uint64_t r = 0; r < rows; ++r) {
    const uint64_t in = r % head;
    out += bytes.substr((r / head * head + in % 2 * (head / 2) + in / 2) * row, row);
  }
  return out;
}

/// Changes a tensor on its way into the file: dtype and bytes.
using Encode = std::function<void(const std::string& gguf_name, Stored&)>;

inline void add_tokenizer(const fs::path& folder, GgufBuilder& out) {
  const nlohmann::json json = nlohmann::json::parse(file_bytes(folder / "tokenizer.json"));
  std::vector<std::string> tokens(json["model"]["vocab"].size()), merges;
  for (const auto& [token, id] : json["model"]["vocab"].items()) tokens.at(id.get<size_t>()) = token;
  for (const auto& merge : json["model"]["merges"])
    merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  std::vector<int32_t> types(tokens.size(), 1);
  for (const auto& added : json["added_tokens"]) types.at(added["id"].get<size_t>()) = 3;
  out.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "smaug-bpe");
  out.texts("tokenizer.ggml.tokens", tokens).array("tokenizer.ggml.token_type", 5, types);
  out.texts("tokenizer.ggml.merges", merges);
}

/// What Llama 3 divides its frequencies by, in float32 as the converter has it.
inline std::string llama3_factors(const nlohmann::json& rope, int dim) {
  const float factor = rope["factor"], low = rope["low_freq_factor"], high = rope["high_freq_factor"],
              original = rope["original_max_position_embeddings"];
  std::string out;
  for (int i = 0; i < dim / 2; ++i) {
    const float freq = 1.0f / std::pow(rope["rope_theta"].get<float>(), float(2 * i) / float(dim));
    const float wavelength = 2 * float(M_PI) / freq;
    float divide = wavelength < original / high ? 1.0f : factor;
    if (wavelength >= original / high && wavelength <= original / low) {
      const float smooth = (original / wavelength - low) / (high - low);
      divide = 1 / ((1 - smooth) / factor + smooth);
    }
    out += raw(divide);
  }
  return out;
}

inline GgufBuilder gguf_of(const fs::path& folder, const Encode& encode = nullptr) {
  const nlohmann::json config = nlohmann::json::parse(file_bytes(folder / "config.json"));
  const std::map<std::string, Stored> tensors = stored_tensors(folder);
  const std::string type = config["model_type"];
  const bool llama = type == "llama" || type == "mistral", moe = type == "qwen3_moe";
  const std::string a = llama ? "llama" : moe ? "qwen3moe" : type;
  const uint32_t dim = config["head_dim"];
  GgufBuilder out;
  out.text("general.architecture", a).text("general.name", "a test");
  const std::pair<const char*, const char*> integers[] = {
      {"block_count", "num_hidden_layers"},
      {"context_length", "max_position_embeddings"},
      {"embedding_length", "hidden_size"},
      {"feed_forward_length", "intermediate_size"},
      {"attention.head_count", "num_attention_heads"},
      {"attention.head_count_kv", "num_key_value_heads"},
      {"attention.key_length", "head_dim"},
      {"attention.value_length", "head_dim"},
      {"rope.dimension_count", "head_dim"},
      {"vocab_size", "vocab_size"},
      {"expert_count", "num_local_experts"},
      {"expert_used_count", "num_experts_per_tok"},
      {"expert_feed_forward_length", "moe_intermediate_size"}};
  for (const auto& [key, field] : integers)
    if (config.contains(field)) out.integer(a + "." + key, config[field]);
  if (config.value("bos_token_id", nlohmann::json()).is_number())
    out.integer("tokenizer.ggml.bos_token_id", config["bos_token_id"]);
  out.number(a + ".attention.layer_norm_rms_epsilon", config["rms_norm_eps"]);
  const nlohmann::json& rope = config["rope_parameters"];
  out.number(a + ".rope.freq_base", rope["rope_theta"]);
  add_tokenizer(folder, out);

  const auto add = [&](const std::string& name, Stored t) {
    if (encode) encode(name, t);
    const std::map<std::string, uint32_t> ids = {{"F32", 0}, {"F16", 1}, {"BF16", 30}, {"Q8_0", 8}};
    out.tensor(name, t.shape, ids.at(t.dtype), t.bytes);
  };
  const auto take = [&](const std::string& name, const std::string& from) {
    for (const std::string ending : {".weight", ".bias"}) {
      const auto it = tensors.find(from + ending);
      if (it == tensors.end()) continue;
      Stored t = it->second;
      const bool turned = name.ends_with(".attn_q") || name.ends_with(".attn_k");
      if (llama && turned) t.bytes = paired(t.bytes, t.shape[0], dim);
      add(name + ending, std::move(t));
    }
  };
  take("token_embd", "model.embed_tokens");
  take("output_norm", "model.norm");
  take("output", "lm_head");
  if (rope["rope_type"] == "llama3")
    add("rope_freqs.weight", {"F32", {dim / 2}, llama3_factors(rope, int(dim))});
  for (int l = 0; l < config["num_hidden_layers"].get<int>(); ++l) {
    const std::string to = "blk." + std::to_string(l) + ".", from = "model.layers." + std::to_string(l) + ".";
    const std::pair<const char*, const char*> names[] = {
        {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
        {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
        {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
        {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
        {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
        {"ffn_down", "mlp.down_proj"},       {"ffn_gate_inp", "mlp.gate"}};
    for (const auto& [name, hf] : names) take(to + name, from + hf);
    for (const std::string part : {"gate", "up", "down"}) {
      if (!moe) continue;
      Stored fused;
      const int n = config["num_local_experts"];
      for (int e = 0; e < n; ++e) {
        const Stored& t = tensors.at(from + "mlp.experts." + std::to_string(e) + "." + part + "_proj.weight");
        fused.dtype = t.dtype;
        fused.shape = {uint64_t(n), t.shape[0], t.shape[1]};
        fused.bytes += t.bytes;
      }
      add(to + "ffn_" + part + "_exps.weight", fused);
    }
  }
  return out;
}

inline std::vector<float> floats_of(const std::string& bf16) {
  std::vector<float> out(bf16.size() / 2);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = from_bf16(uint16_t(uint8_t(bf16[2 * i]) | uint8_t(bf16[2 * i + 1]) << 8));
  return out;
}

/// bf16 numbers, 32 of a row in one block: their scale in fp16, then what is nearest.
inline std::string as_q8_0(const std::string& bf16) {
  const std::vector<float> x = floats_of(bf16);
  std::string out;
  for (size_t i = 0; i < x.size(); i += 32) {
    float most = 0;
    for (size_t j = i; j < i + 32; ++j) most = std::max(most, std::abs(x[j]));
    const uint16_t scale = to_half(most / 127);
    out += raw(scale);
    for (size_t j = i; j < i + 32; ++j)
      out += char(int8_t(std::lround(std::clamp(x[j] / std::max(from_half(scale), 1e-9f), -127.0f, 127.0f))));
  }
  return out;
}

/// Every matrix in blocks of Q8_0.
inline void quantize(const std::string&, Stored& t) {
  if (t.shape.size() == 1) return;
  t.bytes = as_q8_0(t.bytes);
  t.dtype = "Q8_0";
}

}  // namespace blockgtq::test
