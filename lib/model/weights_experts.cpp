// Where each family has its experts.
#include <fmt/format.h>

#include "model/weights_source.h"

namespace blockgtq {

namespace {

/// Matrix e of a tensor (n, rows, cols), or row e of a tensor of two dimensions.
Tensor one_of(const Tensor& all, int64_t e) {
  Tensor flat = all;
  flat.shape =
      all.shape.size() == 3 ? std::vector<int64_t>{all.shape[0] * all.shape[1], all.shape[2]} : all.shape;
  const int64_t rows = flat.shape[0] / all.shape[0];
  Tensor out = flat.rows(e * rows, rows);
  out.shape.assign(all.shape.begin() + 1, all.shape.end());
  return out;
}

/// Experts with one tensor for gate and up and one for down: (E, 2 I, hidden) and (E, hidden, I), or
/// transposed (E, hidden, 2 I) and (E, I, hidden).
void find_together(const WeightSource& from, const std::string& gate_up, const std::string& down,
                   const Config& c, bool transposed, LayerWeights& out) {
  const int64_t n = c.moe.n_experts, width = c.moe.intermediate, hidden = c.hidden;
  const bool oss = c.moe.tensors == ExpertTensors::gpt_oss;
  const Tensor all_gates =
      transposed ? from.get(gate_up, {n, hidden, 2 * width}) : from.get(gate_up, {n, 2 * width, hidden});
  const Tensor all_downs =
      transposed ? from.get(down, {n, width, hidden}) : from.get(down, {n, hidden, width});
  std::optional<Tensor> gate_biases, down_biases;
  if (oss) {
    gate_biases = from.get(gate_up + "_bias", {n, 2 * width});
    down_biases = from.get(down + "_bias", {n, hidden});
  }
  for (int64_t e = 0; e < n; ++e) {
    Mlp& mlp = out.experts.emplace_back();
    Linear both;
    both.weight = one_of(all_gates, e);
    both.transposed = mlp.down.transposed = transposed;
    mlp.down.weight = one_of(all_downs, e);
    if (oss) {
      both.bias = one_of(*gate_biases, e);
      mlp.down.bias = one_of(*down_biases, e);
      mlp.interleaved = true;
    }
    if (transposed) {
      mlp.both = both;
    } else {
      mlp.gate = part(both, 0, width);
      mlp.up = part(both, width, width);
    }
  }
}

void find_single(const WeightSource& from, const std::string& prefix, const Config& c, LayerWeights& out) {
  const int64_t width = c.moe.intermediate, hidden = c.hidden;
  for (int e = 0; e < c.moe.n_experts; ++e) {
    const std::string expert = fmt::format("{}experts.{}.", prefix, e);
    if (c.moe.tensors != ExpertTensors::mixtral) {
      const bool bias = c.moe.tensors == ExpertTensors::gpt_oss;
      out.experts.push_back(find_mlp(from, expert, hidden, width, bias));
      continue;
    }
    Mlp& mlp = out.experts.emplace_back();
    mlp.gate = find_linear(from, expert + "w1", width, hidden, false);
    mlp.up = find_linear(from, expert + "w3", width, hidden, false);
    mlp.down = find_linear(from, expert + "w2", hidden, width, false);
  }
}

/// The bias for choosing experts, under the family's name for it.
Tensor find_choice_bias(const WeightSource& from, const std::string& prefix, int64_t n) {
  const std::string name = "e_score_correction_bias";
  if (from.find(prefix + "moe_statics." + name))
    return one_of(from.get(prefix + "moe_statics." + name, {1, n}), 0);
  if (from.find(prefix + name)) return from.get(prefix + name, {n});
  return from.get(prefix + "gate." + name, {n});
}

}  // namespace

void find_experts(const WeightSource& from, const std::string& layer, const Config& c, LayerWeights& out) {
  const MoeConfig& moe = c.moe;
  const bool sparse = moe.tensors == ExpertTensors::mixtral || moe.tensors == ExpertTensors::granite;
  const std::string prefix = layer + (sparse ? "block_sparse_moe." : "mlp.");
  const bool oss = moe.tensors == ExpertTensors::gpt_oss, granite = moe.tensors == ExpertTensors::granite;
  out.router = find_linear(from,
                           prefix + (oss       ? "router"
                                     : granite ? "router.layer"
                                               : "gate"),
                           moe.n_experts, c.hidden, oss);
  if (moe.choice_bias) out.choice_bias = find_choice_bias(from, prefix, moe.n_experts);
  out.experts.reserve(size_t(moe.n_experts));
  const bool single = from.find(prefix + "experts.0.gate_proj.weight") != nullptr;
  const Tensor* together = single ? nullptr : from.find(prefix + "experts.gate_up_proj");
  if (granite) {
    find_together(from, prefix + "input_linear.weight", prefix + "output_linear.weight", c, false, out);
  } else if ((oss && !single) || together) {
    // In published Qwen3-VL-MoE folders they are transposed, in those that transformers writes they are not.
    const bool transposed =
        oss ||
        together->shape != std::vector<int64_t>{moe.n_experts, 2 * int64_t(moe.intermediate), c.hidden};
    find_together(from, prefix + "experts.gate_up_proj", prefix + "experts.down_proj", c, transposed, out);
  } else {
    find_single(from, prefix, c, out);
  }
  if (moe.shared_intermediate == 0) return;
  const std::string shared = moe.shared_gate ? "shared_expert." : "shared_experts.";
  out.shared = find_mlp(from, prefix + shared, c.hidden, moe.shared_intermediate, c.mlp_bias);
  if (moe.shared_gate) out.shared_gate = find_linear(from, prefix + "shared_expert_gate", 1, c.hidden, false);
}

}  // namespace blockgtq
