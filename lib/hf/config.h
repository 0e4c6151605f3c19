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

enum class RopeType { standard, linear, dynamic, llama3, yarn, longrope };  // "default" is a keyword
const char* name(RopeType);

/// RoPE as the config describes it, in whatever dialect.
struct RopeConfig {
  RopeType type = RopeType::standard;
  Pairing pairing = Pairing::half;
  int rotary_dim = 0;  // R
  double theta = 0;    // base, with rope_ratio applied
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double beta_fast = 32, beta_slow = 1;              // yarn
  bool truncate = true;                              // yarn
  std::optional<double> attention_factor;            // yarn, longrope
  std::optional<double> mscale, mscale_all_dim;      // yarn
  std::vector<double> short_factor, long_factor;     // longrope, (R / 2)
  int original_max_position = 0;                     // llama3, yarn, dynamic, longrope
};

/// Keys and values per head (grouped queries), or latent attention.
enum class AttentionKind { gqa, mla };
/// How the weights of attention and of the dense feed-forward part are named and fused.
enum class Dialect { llama, glm, phi3, starcoder2, chatglm, deepseek };

/// Where a sublayer f is normed: x + f(norm x); x + norm f(x); x + norm f(norm x); or, with attention a and
/// feed-forward f in parallel, x + a(n) + f(n) with n = norm x.
enum class NormPlace { before, after, both, parallel };
enum class NormForm { rms, layer };
enum class QkNorm { none, head, full };  // over each head, or over all heads of q and of k together
/// The activation of the gate: silu(gate) up; gelu_tanh(gate) up; clamped: gpt_oss's swiglu with limit and
/// alpha.
enum class Activation { silu, gelu_tanh, clamped };

/// The parts of attention that differ from layer to layer.
struct LayerAttention {
  enum class Rotation { main, local, none };
  Rotation rotation = Rotation::main;  // by Config::rope, by Config::local_rope, or none
  int window = 0;                      // tokens that a query sees, its own included; 0: all up to its own
  bool delta = false;                  // a gated delta net in place of attention: no keys, no values
  bool operator==(const LayerAttention&) const = default;
};

/// Sizes of latent attention (MLA).
struct MlaConfig {
  int q_lora_rank = 0;  // 0: a single q_proj
  int kv_lora_rank = 0, nope_dim = 0, rope_dim = 0, v_dim = 0;
};

/// How the tensors of experts are named and stored.
/// - plain: one by one (gate_proj, up_proj, down_proj), or all together where the checkpoint has
///   experts.gate_up_proj.
/// - mixtral: one by one as w1, w3, w2. granite: all together under granite's names.
/// - gpt_oss: all together, transposed, gate and up interleaved, with biases (from a GGUF file one by one,
///   with biases).
enum class ExpertTensors { plain, mixtral, granite, gpt_oss };

/// A mixture of experts: how tokens choose among experts, and what the experts are.
struct MoeConfig {
  enum class Score { softmax, sigmoid };
  int n_experts = 0;  // 0: a dense model
  int n_per_token = 0, intermediate = 0;
  int n_shared = 0;             // shared experts
  int shared_intermediate = 0;  // of all shared experts together
  bool shared_gate = false;     // their output is multiplied by the sigmoid of a projection of the token
  Score score = Score::softmax;
  bool choice_bias = false;  // experts are chosen by score + bias, weighted by score
  bool normalize_top_k = false;
  double routed_scale = 1;
  int n_group = 1, topk_group = 1;  // experts are chosen from the topk_group best groups; 1: from all
  bool group_by_two = false;        // a group is rated by the sum of its two best experts, not by its best
  ExpertTensors tensors = ExpertTensors::plain;
};

/// Gated delta net (linear attention): sizes per head.
struct DeltaConfig {
  int n_key_heads = 0, n_value_heads = 0, key_dim = 0, value_dim = 0, kernel = 0;
  bool fused = false;  // q, k, v and z of a key head share one projection (qwen3_next)
};

/// How the weights of a folder are stored.
enum class WeightFormat { plain, fp8, mxfp4 };

/// How a folder's matrices are quantized. Their dtypes say which of them are.
struct QuantizedConfig {
  WeightFormat format = WeightFormat::plain;
  std::string scale_ending;            // of fp8: a weight's scales have its name with this ending
  int block_rows = 0, block_cols = 0;  // of fp8: the numbers that share a scale; 0: the whole matrix
};

/// A supported decoder. Every dialect is read into this one form.
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
  bool tied = false;  // lm_head is the embedding; false where a Checkpoint has a head that differs
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  QkNorm qk_norm = QkNorm::none;
  NormPlace norm_place = NormPlace::before;
  NormForm norm_form = NormForm::rms;
  double norm_offset = 0;                            // added to every norm's weight
  bool norm_bias = false;                            // of layer norms
  double attention_scale = 0;                        // of q k^T
  double attention_softcap = 0, logits_softcap = 0;  // c tanh(x / c); 0: none
  bool sinks = false;         // a learned logit per head takes its share of the softmax
  bool gated_output = false;  // q_proj also gives a gate for each head: out * sigmoid(gate)
  double embedding_multiplier = 1, residual_multiplier = 1, logits_multiplier = 1;
  Activation activation = Activation::silu;
  double swiglu_limit = 0, swiglu_alpha = 0;  // Activation::clamped
  int max_position = 0;
  RopeConfig rope;
  std::optional<RopeConfig> local_rope;  // of sliding layers that have their own
  MlaConfig mla;
  MoeConfig moe;
  DeltaConfig delta;
  std::vector<bool> layer_is_moe;               // (n_layers)
  std::vector<LayerAttention> layer_attention;  // (n_layers)
  std::string torch_dtype;
  QuantizedConfig quantized;
  std::string prefix = "model.";     // of the decoder's tensors; a Checkpoint sets it to that of its files
  std::vector<std::string> remarks;  // what the folder says but the model does not do, one line each

  /// The shortest window; 0 where every layer sees all.
  int sliding_window() const;
  /// Layers that have keys and values, in order.
  std::vector<int> kv_layers() const;
  /// What is unusual: "sliding windows of 128 on 18 of 36 layers, learned sinks". May be empty.
  std::string peculiarities() const;
  int group() const { return n_heads / n_kv_heads; }  // G: query heads per KV head
  BlockLayout blocks() const { return {head_dim, rope.rotary_dim, rope.pairing}; }
};

/// The names of the two tensors that a config can tie: "model.embed_tokens.weight" and "lm_head.weight", or
/// the dialect's own.
std::string embedding_name(const Config& config);
std::string head_name(const Config& config);

/// Reads a config.json (the model types of families.h; old and new RoPE spellings). Exit::input names what is
/// not supported: other quantized weights, an unknown model_type or RoPE type, a missing theta, ... `name` is
/// the file, for messages.
Config parse_config(const Json& json, const std::string& name);

/// The angular frequencies in float64 that the model uses for a sequence of seq_len tokens, (rotary_dim / 2),
/// and the factor of cos and sin (yarn's attention factor; 1 elsewhere). Source: transformers,
/// modeling_rope_utils.
struct RopeFrequencies {
  std::vector<double> inv_freq;
  double attention_factor = 1;
};
RopeFrequencies rope_frequencies(const RopeConfig& rope, int max_position, int64_t seq_len);

/// theta^(-2i/R) without any scaling, (R / 2): what the published metric uses (--compat reference).
std::vector<double> unscaled_inv_freq(const RopeConfig& rope);

}  // namespace blockgtq
