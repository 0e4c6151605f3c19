#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/blocks.h"
#include "base/json.h"

namespace blockgtq {

inline constexpr size_t kMaxConfigBytes = 1 << 20;
inline constexpr int kMaxLayers = 1024;
inline constexpr int kMaxHeads = 1024;
inline constexpr int kMaxHeadDim = 512;

enum class RopeType { standard, linear, dynamic, llama3, yarn };  // "default" is a keyword
const char* name(RopeType);

/// RoPE as the config tells it, whatever dialect it is spelled in.
struct RopeConfig {
  RopeType type = RopeType::standard;
  Pairing pairing = Pairing::half;
  int rotary_dim = 0;  // R
  double theta = 0;    // base, rope_ratio already applied
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;                // llama3
  double beta_fast = 32, beta_slow = 1;                            // yarn
  bool truncate = true;                                            // yarn
  std::optional<double> attention_factor, mscale, mscale_all_dim;  // yarn
  int original_max_position = 0;                                   // llama3, yarn, dynamic
};

enum class AttentionKind { gqa, mla };
/// How the weights are named and fused.
enum class Dialect { llama, glm, chatglm, deepseek_v2 };

/// "model.embed_tokens.weight" and "lm_head.weight", or the dialect's own names: the two that a config can
/// tie.
const char* embedding_name(Dialect);
const char* head_name(Dialect);

struct MlaConfig {
  int q_lora_rank = 0;  // 0: one q_proj
  int kv_lora_rank = 0, nope_dim = 0, rope_dim = 0, v_dim = 0;
};

struct MoeConfig {
  int n_experts = 0;  // 0: a dense model
  int n_per_token = 0, intermediate = 0;
  int n_shared = 0;  // shared experts, of intermediate * n_shared together
  bool normalize_top_k = false;
  double routed_scale = 1;
  int n_group = 1, topk_group = 1;  // group_limited_greedy; 1: plain greedy
};

enum class WeightFormat { plain, fp8, mxfp4 };

/// How a folder's matrices are quantized. Which of them are, their dtypes say.
struct QuantizedConfig {
  WeightFormat format = WeightFormat::plain;
  std::string scale_ending;            // of fp8: behind a weight's name, that of its scales
  int block_rows = 0, block_cols = 0;  // of fp8: the numbers that share a scale; 0: all of a matrix
};

/// A supported decoder, every dialect in one shape.
struct Config {
  std::string model_type;
  Dialect dialect = Dialect::llama;
  AttentionKind attention = AttentionKind::gqa;
  int n_layers = 0, hidden = 0, intermediate = 0, vocab = 0;
  int n_heads = 0;     // query heads
  int n_kv_heads = 0;  // heads of the quantized key: 1 for MLA, whose heads share one rotary key
  int head_dim = 0;    // D of the quantized key: qk_rope_head_dim for MLA
  int v_dim = 0;       // of a cached value; 0 for MLA, whose values are not cached per head
  double rms_eps = 1e-6;
  bool tied = false;  // lm_head is the embedding; a Checkpoint that has a head of its own is not tied
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;  // RMSNorm over every head of q and k
  int max_position = 0;
  int sliding_window = 0;  // tokens; 0: none. A run whose window is longer is refused
  RopeConfig rope;
  MlaConfig mla;
  MoeConfig moe;
  std::vector<bool> layer_is_moe;  // (n_layers)
  std::string torch_dtype;
  QuantizedConfig quantized;
  std::vector<std::string> remarks;  // what the folder says and the model does not do, one line each

  int group() const { return n_heads / n_kv_heads; }  // G: query heads per KV head
  BlockLayout blocks() const { return {head_dim, rope.rotary_dim, rope.pairing}; }
};

/// Understands a config.json (llama, mistral, qwen2, qwen3, qwen3_moe, glm, chatglm, deepseek_v2; old and new
/// RoPE spellings). Anything else is refused by name (Exit::input): other kinds of quantized weights, unknown
/// model_type, unknown RoPE type, a missing theta, ... `name` is the file for messages.
Config parse_config(const Json& json, const std::string& name);

/// The float64 angular frequencies the model uses for a sequence of seq_len tokens, (rotary_dim / 2), and the
/// factor on cos and sin (yarn's attention factor; 1 elsewhere). Source: transformers, modeling_rope_utils.
struct RopeFrequencies {
  std::vector<double> inv_freq;
  double attention_factor = 1;
};
RopeFrequencies rope_frequencies(const RopeConfig& rope, int max_position, int64_t seq_len);

/// theta^(-2i/R) without any scaling: what the published metric uses (--compat reference).
std::vector<double> unscaled_inv_freq(const RopeConfig& rope);

}  // namespace blockgtq
