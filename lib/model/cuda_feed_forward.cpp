// The feed-forward part of a layer on a GPU: dense, or routed experts and a shared one.
#include <algorithm>
#include <utility>

#include "base/error.h"
#include "kernels/forward/activation.h"
#include "kernels/forward/moe.h"
#include "model/cuda_decoder.h"
#include "model/cuda_experts.h"

namespace blockgtq {

void CudaDecoder::feed_forward(const ResidentLayer& layer) {
  enter(layer.parcel, layer.base);
  const LayerWeights& w = layer.weights;
  const int64_t hidden = config().hidden;
  for (int64_t first = 0; first < run_.n_tokens; first += run_.slab()) {
    const int64_t count = std::min(run_.slab(), run_.n_tokens - first);
    float* x = ws_.x + first * hidden;
    const void* in = ws_.normed ? low(ws_.normed, first * hidden)
                                : input(w.post_norm, x, count, ws_.in, w.mlp ? nullptr : ws_.in_float);
    if (w.mlp) {
      add_mlp(*w.mlp, w.output_norm, in, count, x);
      continue;
    }
    check(w.post_norm && !w.output_norm, "experts: normed before, not after");
    add_experts(layer, first, count);
    if (w.shared) add_shared(w, in, count, x);
  }
  pending_.push_back(output_of(layer));
  watch(pending_.back());
}

/// y (n, 2 width) = [gate(x) | up(x)], or the columns of `both`; without a gate (n, width).
void CudaDecoder::gate_up(const Mlp& mlp, const void* x, int64_t n, float* y) {
  if (mlp.both) return linear(*mlp.both, x, n, y);
  if (mlp.gate.weight.shape.empty()) return linear(mlp.up, x, n, y);
  const int64_t width = mlp.width();
  if (mlp.gate.weight.dtype == mlp.up.weight.dtype) {
    multiply(mlp.gate.weight, 2 * width, run_.type, x, n, y, 2 * width, false);
  } else {
    multiply(mlp.gate.weight, width, run_.type, x, n, y, 2 * width, false);
    multiply(mlp.up.weight, width, run_.type, x, n, y + width, 2 * width, false);
  }
  add_bias(mlp.gate, y, 2 * width, n);
  add_bias(mlp.up, y + width, 2 * width, n);
}

/// act (n, width) from gate_up.
void CudaDecoder::activate(const Mlp& mlp, int64_t n) {
  const Config& c = config();
  const bool alone = !mlp.both && mlp.gate.weight.shape.empty();
  cuda::GatedRows rows;
  rows.x = ws_.gate_up;
  rows.n = n;
  rows.width = mlp.width();
  rows.activation = activation_of(c);
  rows.layout = alone             ? cuda::GateLayout::alone
                : mlp.interleaved ? cuda::GateLayout::pairs
                                  : cuda::GateLayout::halves;
  rows.limit = float(c.swiglu_limit);
  rows.alpha = float(c.swiglu_alpha);
  rows.out = ws_.act;
  rows.type = run_.type;
  cuda::activate(rows, stream_);
}

/// x (n, hidden) += mlp(in), or the norm of it.
void CudaDecoder::add_mlp(const Mlp& mlp, const std::optional<Norm>& norm, const void* in, int64_t n,
                          float* x) {
  gate_up(mlp, in, n, ws_.gate_up);
  activate(mlp, n);
  add_output(mlp.down, norm, ws_.act, n, x);
}

/// x (n, hidden) += the shared expert, times the sigmoid of its gate where it has one.
void CudaDecoder::add_shared(const LayerWeights& w, const void* in, int64_t n, float* x) {
  if (!w.shared_gate) return add_mlp(*w.shared, std::nullopt, in, n, x);
  gate_up(*w.shared, in, n, ws_.gate_up);
  activate(*w.shared, n);
  linear(w.shared->down, ws_.act, n, ws_.out);
  multiply(w.shared_gate->weight, 1, cuda::FloatType::f32, ws_.in_float, n, ws_.open, 1, false);
  cuda::add_gated_rows(ws_.out, ws_.open, float(config().residual_multiplier), n, config().hidden, x,
                       stream_);
}

/// Chooses the experts of tokens [first, first + n) and their weights, in device memory; copies the experts
/// to `routing_` too.
void CudaDecoder::choose_experts(const ResidentLayer& layer, int64_t first, int64_t n) {
  const MoeConfig& moe = config().moe;
  const LayerWeights& w = layer.weights;
  multiply(w.router->weight, moe.n_experts, cuda::FloatType::f32, ws_.in_float, n, ws_.router_logits,
           moe.n_experts, false);
  add_bias(*w.router, ws_.router_logits, moe.n_experts, n);
  const Watched watched{kOther, ws_.router_logits, n, moe.n_experts, w.router->weight.name, w.all(), first};
  watch(watched);
  cuda::RoutingRule rule = routing_rule(moe);
  rule.scale *= float(config().residual_multiplier);
  if (w.choice_bias) rule.bias = floats(*w.choice_bias);
  cuda::route(rule, ws_.router_logits, n, ws_.expert, ws_.weight, stream_);
  cuda::download(routing_.as(), ws_.expert, size_t(n * moe.n_per_token) * sizeof(int32_t), stream_);
  require_finite({watched});  // also waits for the copy of the experts
}

/// blockgtq::group_by_expert() of the chosen experts; row_token and position go to the device.
std::vector<int64_t> CudaDecoder::group_by_expert(int64_t n) {
  const MoeConfig& moe = config().moe;
  const int64_t choices = n * moe.n_per_token, most = run_.slab() * moe.n_per_token;
  int32_t* const row_token = routing_.as<int32_t>() + most;
  int32_t* const position = row_token + most;
  std::vector<int64_t> begin = blockgtq::group_by_expert(moe, routing_.as<int32_t>(), n, row_token, position);
  cuda::upload(ws_.row_token, row_token, size_t(choices) * sizeof(int32_t), stream_);
  cuda::upload(ws_.position, position, size_t(choices) * sizeof(int32_t), stream_);
  return begin;
}

/// x of tokens [first, first + n) += the weighted outputs of their experts. Every expert computes its tokens
/// together.
void CudaDecoder::add_experts(const ResidentLayer& layer, int64_t first, int64_t n) {
  const MoeConfig& moe = config().moe;
  const int64_t hidden = config().hidden, choices = n * moe.n_per_token, width = moe.intermediate;
  choose_experts(layer, first, n);
  const std::vector<int64_t> begin = group_by_expert(n);
  cuda::gather_rows(ws_.in, hidden * cuda::bytes_of(run_.type), ws_.row_token, choices, ws_.gathered,
                    stream_);
  for (size_t e = 0; e < layer.weights.experts.size(); ++e) {
    const int64_t rows = begin[e + 1] - begin[e];
    if (rows > 0)
      gate_up(layer.weights.experts[e], low(ws_.gathered, begin[e] * hidden), rows,
              ws_.gate_up + 2 * begin[e] * width);
  }
  activate(layer.weights.experts[0], choices);
  for (size_t e = 0; e < layer.weights.experts.size(); ++e) {
    const int64_t rows = begin[e + 1] - begin[e];
    if (rows > 0)
      linear(layer.weights.experts[e].down, low(ws_.act, begin[e] * width), rows,
             ws_.expert_out + begin[e] * hidden);
  }
  cuda::add_weighted_rows(ws_.expert_out, ws_.position, ws_.weight, n, moe.n_per_token, hidden,
                          ws_.x + first * hidden, stream_);
}

}  // namespace blockgtq
