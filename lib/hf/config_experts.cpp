// Which layers have experts, how a token chooses among them, and how they are stored. Source of the rules:
// transformers, configuration_*.py and modeling_*.py of each family.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "hf/config_dialects.h"

namespace blockgtq {

namespace {

/// Reads the number of experts, their width from `width_key`, and the number of experts per token from
/// `top_key`.
void parse_sizes(const ConfigFields& config, const std::string& width_key, const std::string& top_key,
                 Config& out) {
  out.moe.intermediate = config.integer(width_key, 1, kMaxWidth);
  out.moe.n_per_token = config.integer(top_key, 1, kMaxExperts);
  if (out.moe.n_per_token > out.moe.n_experts)
    config.fail(top_key, fmt::format("{} is out of range: 1 to {}, the number of experts",
                                     out.moe.n_per_token, out.moe.n_experts));
}

void parse_groups(const ConfigFields& config, Config& out) {
  MoeConfig& moe = out.moe;
  moe.n_group = config.integer("n_group", 1, moe.n_experts);
  moe.topk_group = config.integer("topk_group", 1, moe.n_group);
  if (moe.n_experts % moe.n_group != 0)
    config.fail("n_group",
                fmt::format("{} does not divide n_routed_experts: {}", moe.n_group, moe.n_experts));
  const int reachable = moe.topk_group * (moe.n_experts / moe.n_group);
  if (moe.n_per_token > reachable)
    config.fail("num_experts_per_tok",
                fmt::format("{} is out of range: 1 to {}, the experts of topk_group groups", moe.n_per_token,
                            reachable));
}

void parse_deepseek_v2(const ConfigFields& config, Config& out) {
  const std::string scoring = config.text("scoring_func", "softmax");
  if (scoring != "softmax")
    config.fail("scoring_func", fmt::format("{} is not supported: softmax", shown(scoring)));
  // The published model code and transformers disagree about its meaning. All released models have false.
  require_flag(config, "norm_topk_prob", false, false);
  const std::string method = config.text("topk_method", "greedy");
  if (method == "greedy") return;
  if (method != "group_limited_greedy")
    config.fail("topk_method",
                fmt::format("{} is not supported: greedy, group_limited_greedy", shown(method)));
  parse_groups(config, out);
}

/// DeepSeek-V3, Kimi-K2, GLM-4.5: scores are sigmoids, and experts are chosen by score plus bias.
void parse_deepseek_v3(const ConfigFields& config, Config& out) {
  const std::string scoring = config.text("scoring_func", "sigmoid"),
                    method = config.text("topk_method", "noaux_tc");
  if (scoring != "sigmoid")
    config.fail("scoring_func", fmt::format("{} is not supported: sigmoid", shown(scoring)));
  if (method != "noaux_tc")
    config.fail("topk_method", fmt::format("{} is not supported: noaux_tc", shown(method)));
  MoeConfig& moe = out.moe;
  moe.score = MoeConfig::Score::sigmoid;
  moe.choice_bias = true;
  moe.normalize_top_k = config.flag("norm_topk_prob", true);
  moe.group_by_two = true;
  parse_groups(config, out);
  if (moe.n_group > 1 && moe.n_experts / moe.n_group < 2)
    config.fail("n_group",
                fmt::format("{} leaves fewer than 2 of {} experts to a group", moe.n_group, moe.n_experts));
}

void parse_deepseek(const ConfigFields& config, bool v3, Config& out) {
  if (!config.mentions("n_routed_experts"))
    config.fail("n_routed_experts", "missing: an integer, or null for none");
  MoeConfig& moe = out.moe;
  moe.n_experts = config.integer_or("n_routed_experts", 0, 0, kMaxExperts);
  if (moe.n_experts == 0) return;
  parse_sizes(config, "moe_intermediate_size", "num_experts_per_tok", out);
  if (v3) {
    parse_deepseek_v3(config, out);
  } else {
    parse_deepseek_v2(config, out);
  }
  if (!config.mentions("n_shared_experts"))
    config.fail("n_shared_experts", "missing: an integer, or null for none");
  moe.n_shared = config.integer_or("n_shared_experts", 0, 0, kMaxExperts);
  moe.routed_scale = config.positive_or("routed_scaling_factor", 1);
  const int first = config.integer_or("first_k_dense_replace", 0, 0, kMaxLayers);
  const int every = config.integer_or("moe_layer_freq", 1, 1, kMaxLayers);
  for (int i = first; i < out.n_layers; ++i) out.layer_is_moe[size_t(i)] = i % every == 0;
}

/// Qwen: every decoder_sparse_step-th layer except mlp_only_layers; some have a shared expert with a gate.
void parse_qwen(const ConfigFields& config, Config& out) {
  const bool old_name = config.has("num_experts");
  const std::string key = old_name ? "num_experts" : "num_local_experts";
  MoeConfig& moe = out.moe;
  moe.n_experts = config.integer(key, 0, kMaxExperts);
  const int other = config.integer_or("num_local_experts", moe.n_experts, 0, kMaxExperts);
  if (other != moe.n_experts)
    config.fail("num_local_experts", fmt::format("{} differs from num_experts: {}", other, moe.n_experts));
  if (moe.n_experts == 0) return;
  parse_sizes(config, "moe_intermediate_size", "num_experts_per_tok", out);
  moe.normalize_top_k = config.flag("norm_topk_prob", out.model_type == "qwen3_vl_moe_text");
  moe.shared_intermediate = config.integer_or("shared_expert_intermediate_size", 0, 0, kMaxWidth);
  moe.shared_gate = moe.shared_intermediate > 0;
  const int step = config.integer_or("decoder_sparse_step", 1, 1, kMaxLayers);
  for (int i = 0; i < out.n_layers; ++i) out.layer_is_moe[size_t(i)] = (i + 1) % step == 0;
  if (const Json* dense = config.find("mlp_only_layers")) {
    if (!dense->is_array())
      config.fail("mlp_only_layers", fmt::format("expected a list, found {}", shown(*dense)));
    for (const Json& layer : *dense) {
      if (!layer.is_number_unsigned() || layer.get<uint64_t>() >= uint64_t(out.n_layers))
        config.fail("mlp_only_layers",
                    fmt::format("{} is not a layer: 0 to {}", shown(layer), out.n_layers - 1));
      out.layer_is_moe[layer.get<size_t>()] = false;
    }
  }
}

/// Mixtral, granitemoe, gpt_oss, minimax_m2: every layer has experts, of width intermediate_size.
void parse_mixtral(const ConfigFields& config, Config& out) {
  MoeConfig& moe = out.moe;
  moe.n_experts = config.integer("num_local_experts", 1, kMaxExperts);
  parse_sizes(config, "intermediate_size", "num_experts_per_tok", out);
  moe.normalize_top_k = true;  // equal to a softmax of the chosen logits
  moe.tensors = ExpertTensors::mixtral;
  if (out.sinks) moe.tensors = ExpertTensors::gpt_oss;
  if (out.model_type == "granitemoe") moe.tensors = ExpertTensors::granite;
  if (out.model_type == "minimax_m2") {
    moe.score = MoeConfig::Score::sigmoid;
    moe.choice_bias = true;
  }
  out.layer_is_moe.assign(size_t(out.n_layers), true);
}

void parse_ernie(const ConfigFields& config, Config& out) {
  MoeConfig& moe = out.moe;
  moe.n_experts = config.integer_or("moe_num_experts", 64, 0, kMaxExperts);
  if (moe.n_experts == 0) return;
  parse_sizes(config, "moe_intermediate_size", "moe_k", out);
  moe.choice_bias = moe.normalize_top_k = true;
  moe.n_shared = config.integer_or("moe_num_shared_experts", 2, 0, kMaxExperts);
  const int first = config.integer_or("moe_layer_start_index", 1, 0, kMaxLayers);
  int last = config.integer_or("moe_layer_end_index", -1, -1, kMaxLayers);
  if (last < 0) last = out.n_layers - 1;
  const int every = config.integer_or("moe_layer_interval", 1, 1, kMaxLayers);
  for (int i = first; i < std::min(last + 1, out.n_layers); ++i)
    out.layer_is_moe[size_t(i)] = (i + 1) % every == 0;
}

}  // namespace

void parse_experts(const ConfigFields& config, const Family& family, Config& out) {
  switch (family.experts) {
    case ExpertFields::none:
      return;
    case ExpertFields::qwen:
      parse_qwen(config, out);
      break;
    case ExpertFields::mixtral:
      parse_mixtral(config, out);
      break;
    case ExpertFields::ernie:
      parse_ernie(config, out);
      break;
    case ExpertFields::deepseek_v2:
    case ExpertFields::deepseek_v3:
      parse_deepseek(config, family.experts == ExpertFields::deepseek_v3, out);
      break;
  }
  if (out.moe.n_shared > 0) out.moe.shared_intermediate = out.moe.n_shared * out.moe.intermediate;
  const auto& moe = out.layer_is_moe;  // a model without a layer with experts is dense
  if (std::find(moe.begin(), moe.end(), true) == moe.end()) out.moe = MoeConfig{};
}

}  // namespace blockgtq
