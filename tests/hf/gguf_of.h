// The GGUF file that llama.cpp's converter would make of one of the small models.
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

/// The numbers of an F16 tensor.
inline std::vector<float> halves_of(const std::string& f16) {
  std::vector<float> out(f16.size() / 2);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = from_half(uint16_t(uint8_t(f16[2 * i]) | uint8_t(f16[2 * i + 1]) << 8));
  return out;
}

/// Norms as Gemma's converter stores them: in float32, with the 1 that the model adds.
inline Stored whole_norm(const Stored& f16) {
  Stored out{"F32", f16.shape, ""};
  for (const float x : halves_of(f16.bytes)) out.bytes += raw(x + 1.0f);
  return out;
}

/// (E, rows, cols) of 16-bit numbers, transposed to (E, cols, rows): every `step`-th of cols from `first`.
inline Stored transposed_part(const Stored& t, uint64_t first, uint64_t step) {
  const uint64_t n = t.shape[0], rows = t.shape[1], cols = t.shape[2];
  Stored out{t.dtype, {n, cols / step, rows}, ""};
  for (uint64_t e = 0; e < n; ++e)
    for (uint64_t j = first; j < cols; j += step)
      for (uint64_t i = 0; i < rows; ++i) out.bytes += t.bytes.substr(((e * rows + i) * cols + j) * 2, 2);
  return out;
}

/// Every `step`-th number of 16 bits from `first`, of rows (E, cols) with whole steps.
inline Stored vector_part(const Stored& t, uint64_t first, uint64_t step) {
  Stored out{t.dtype, {t.shape[0], t.shape[1] / step}, ""};
  for (uint64_t i = first; i < t.bytes.size() / 2; i += step) out.bytes += t.bytes.substr(2 * i, 2);
  return out;
}

/// A model on its way into a file.
class GgufOf {
 public:
  GgufOf(const fs::path& folder, const Encode& encode)
      : config_(nlohmann::json::parse(file_bytes(folder / "config.json"))),
        tensors_(stored_tensors(folder)),
        encode_(encode),
        type_(config_["model_type"]),
        dim_(config_.value("head_dim", nlohmann::json()).is_number()
                 ? config_["head_dim"].get<uint32_t>()
                 : config_["hidden_size"].get<uint32_t>() / config_["num_attention_heads"].get<uint32_t>()) {
    const std::map<std::string, std::string> names = {{"mistral", "llama"},      {"mixtral", "llama"},
                                                      {"qwen3_moe", "qwen3moe"}, {"qwen2_moe", "qwen2moe"},
                                                      {"gpt_oss", "gpt-oss"},    {"gemma3_text", "gemma3"}};
    name_ = names.count(type_) ? names.at(type_) : type_;
    add_metadata();
    add_rope();
    if (fs::exists(folder / "tokenizer.json")) add_tokenizer(folder, out_);
    take("token_embd", "model.embed_tokens");
    take("output_norm", "model.norm");
    take("output", "lm_head");
    for (int l = 0; l < config_["num_hidden_layers"].get<int>(); ++l) {
      const std::string to = "blk." + std::to_string(l) + ".",
                        from = "model.layers." + std::to_string(l) + ".";
      for (const auto& [name, hf] : layer_names()) take(to + name, from + hf);
      if (type_ == "gpt_oss") {
        add_gpt_oss(to, from);
      } else if (config_.contains("num_local_experts") || config_.contains("num_experts")) {
        add_experts(to, from);
      }
    }
  }

  GgufBuilder build() && { return std::move(out_); }

 private:
  bool is(std::initializer_list<const char*> types) const {
    return std::find(types.begin(), types.end(), type_) != types.end();
  }
  bool gemma() const { return is({"gemma2", "gemma3_text"}); }

  void add_metadata() {
    out_.text("general.architecture", name_).text("general.name", "a test");
    const std::pair<const char*, const char*> integers[] = {
        {"block_count", "num_hidden_layers"},
        {"context_length", "max_position_embeddings"},
        {"embedding_length", "hidden_size"},
        {"feed_forward_length", "intermediate_size"},
        {"attention.head_count", "num_attention_heads"},
        {"attention.head_count_kv", "num_key_value_heads"},
        {"attention.key_length", "head_dim"},
        {"attention.value_length", "head_dim"},
        {"vocab_size", "vocab_size"},
        {"expert_count", "num_local_experts"},
        {"expert_count", "num_experts"},
        {"expert_used_count", "num_experts_per_tok"},
        {"expert_feed_forward_length", "moe_intermediate_size"},
        {"expert_shared_feed_forward_length", "shared_expert_intermediate_size"}};
    for (const auto& [key, field] : integers)
      if (config_.contains(field) && config_[field].is_number()) integer(key, config_[field]);
    if (config_.value("bos_token_id", nlohmann::json()).is_number())
      out_.integer("tokenizer.ggml.bos_token_id", config_["bos_token_id"]);
    number("attention.layer_norm_rms_epsilon", config_["rms_norm_eps"]);
    if (is({"gemma2", "gemma3_text", "gpt_oss"}))
      integer("attention.sliding_window", config_["sliding_window"]);
    if (type_ == "phi3")
      integer("attention.sliding_window",
              config_["sliding_window"].is_null() ? 0 : config_["sliding_window"].get<uint32_t>());
    if (type_ == "gpt_oss") integer("expert_feed_forward_length", config_["intermediate_size"]);
    const std::pair<const char*, const char*> numbers[] = {
        {"attn_logit_softcapping", "attn_logit_softcapping"},
        {"final_logit_softcapping", "final_logit_softcapping"},
        {"attention.scale", "attention_multiplier"},
        {"embedding_scale", "embedding_multiplier"},
        {"residual_scale", "residual_multiplier"},
        {"logit_scale", "logits_scaling"}};
    for (const auto& [key, field] : numbers)
      if (config_.contains(field) && config_[field].is_number()) number(key, config_[field]);
  }

  void add_rope() {
    const bool local = type_ == "gemma3_text";
    const nlohmann::json& all = config_["rope_parameters"];
    const nlohmann::json& rope = local ? all["full_attention"] : all;
    const double share = rope.value("partial_rotary_factor", 1.0);
    if (!gemma()) integer("rope.dimension_count", uint32_t(dim_ * share));
    if (type_ != "gemma2") number("rope.freq_base", rope["rope_theta"]);
    const std::string kind = rope["rope_type"];
    if (kind == "linear" || kind == "yarn")
      out_.text(name_ + ".rope.scaling.type", kind), number("rope.scaling.factor", rope["factor"]);
    if (kind == "yarn")
      integer("rope.scaling.original_context_length", rope["original_max_position_embeddings"]);
    if (kind == "llama3") add("rope_freqs.weight", {"F32", {dim_ / 2}, llama3_factors(rope, int(dim_))});
    if (type_ != "phi3") return;
    const double original = config_["original_max_position_embeddings"];
    integer("rope.scaling.original_context_length", uint32_t(original));
    if (kind != "longrope") return;
    const double scale = config_["max_position_embeddings"].get<double>() / original;
    number("rope.scaling.attn_factor", float(std::sqrt(1 + std::log(scale) / std::log(original))));
    for (const std::string which : {"long", "short"}) {
      std::string bytes;
      for (const nlohmann::json& factor : rope[which + "_factor"]) bytes += raw(factor.get<float>());
      add("rope_factors_" + which + ".weight", {"F32", {bytes.size() / 4}, bytes});
    }
  }

  /// Of a layer: the file's name, the folder's.
  std::vector<std::pair<std::string, std::string>> layer_names() const {
    std::vector<std::pair<std::string, std::string>> out = {{"attn_norm", "input_layernorm"},
                                                            {"attn_q", "self_attn.q_proj"},
                                                            {"attn_k", "self_attn.k_proj"},
                                                            {"attn_v", "self_attn.v_proj"},
                                                            {"attn_qkv", "self_attn.qkv_proj"},
                                                            {"attn_output", "self_attn.o_proj"},
                                                            {"attn_q_norm", "self_attn.q_norm"},
                                                            {"attn_k_norm", "self_attn.k_norm"},
                                                            {"ffn_gate", "mlp.gate_proj"},
                                                            {"ffn_up", "mlp.up_proj"},
                                                            {"ffn_up", "mlp.gate_up_proj"},
                                                            {"ffn_down", "mlp.down_proj"},
                                                            {"ffn_gate_inp", "mlp.gate"},
                                                            {"ffn_gate_inp", "block_sparse_moe.gate"},
                                                            {"ffn_gate_inp", "mlp.router"},
                                                            {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
                                                            {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
                                                            {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
                                                            {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
                                                            {"ffn_norm", "pre_feedforward_layernorm"},
                                                            {"post_ffw_norm", "post_feedforward_layernorm"}};
    const bool behind = is({"olmo2", "gemma2", "gemma3_text", "gpt_oss"});
    out.emplace_back(behind ? "post_attention_norm" : "ffn_norm", "post_attention_layernorm");
    return out;
  }

  void add_experts(const std::string& to, const std::string& from) {
    const bool mixtral = type_ == "mixtral";
    const int n = config_[config_.contains("num_experts") ? "num_experts" : "num_local_experts"];
    for (const auto& [part, single] : {std::pair{"gate", "w1"}, {"up", "w3"}, {"down", "w2"}}) {
      Stored fused;
      for (int e = 0; e < n; ++e) {
        const std::string prefix =
            from + (mixtral ? "block_sparse_moe" : "mlp") + ".experts." + std::to_string(e);
        const Stored& t =
            tensors_.at(prefix + "." + (mixtral ? single : std::string(part) + "_proj") + ".weight");
        fused.dtype = t.dtype;
        fused.shape = {uint64_t(n), t.shape[0], t.shape[1]};
        fused.bytes += t.bytes;
      }
      add(to + "ffn_" + part + "_exps.weight", fused);
    }
  }

  void add_gpt_oss(const std::string& to, const std::string& from) {
    add(to + "attn_sinks.weight", tensors_.at(from + "self_attn.sinks"));
    const auto experts = [&](const char* name) { return tensors_.at(from + "mlp.experts." + name); };
    const Stored both = experts("gate_up_proj"), biases = experts("gate_up_proj_bias");
    add(to + "ffn_gate_exps.weight", transposed_part(both, 0, 2));
    add(to + "ffn_up_exps.weight", transposed_part(both, 1, 2));
    add(to + "ffn_down_exps.weight", transposed_part(experts("down_proj"), 0, 1));
    add(to + "ffn_gate_exps.bias", vector_part(biases, 0, 2));
    add(to + "ffn_up_exps.bias", vector_part(biases, 1, 2));
    add(to + "ffn_down_exps.bias", experts("down_proj_bias"));
  }

  void integer(const std::string& key, uint32_t value) { out_.integer(name_ + "." + key, value); }
  void number(const std::string& key, float value) { out_.number(name_ + "." + key, value); }

  void add(const std::string& name, Stored t) {
    if (encode_) encode_(name, t);
    const std::map<std::string, uint32_t> ids = {
        {"F32", 0}, {"F16", 1}, {"BF16", 30}, {"Q8_0", 8}, {"MXFP4", 39}};
    out_.tensor(name, t.shape, ids.at(t.dtype), t.bytes);
  }

  void take(const std::string& name, const std::string& from) {
    for (const std::string ending : {".weight", ".bias"}) {
      const auto it = tensors_.find(from + ending);
      if (it == tensors_.end()) continue;
      Stored t = it->second;
      const bool turned = name.ends_with(".attn_q") || name.ends_with(".attn_k");
      if (turned && is({"llama", "mistral", "mixtral", "smollm3", "granite"}))
        t.bytes = paired(t.bytes, t.shape[0], dim_);
      if (gemma() && name.ends_with("norm")) t = whole_norm(t);
      if (name.ends_with("_inp_shexp")) t.shape = {t.shape[1]};
      add(name + ending, std::move(t));
    }
  }

  nlohmann::json config_;
  std::map<std::string, Stored> tensors_;
  Encode encode_;
  std::string type_, name_;
  uint32_t dim_;
  GgufBuilder out_;
};

inline GgufBuilder gguf_of(const fs::path& folder, const Encode& encode = nullptr) {
  return GgufOf(folder, encode).build();
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
