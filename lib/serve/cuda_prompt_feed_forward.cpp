// The feed-forward part of a chunk of a prompt: dense; or a mixture of experts, each of which computes all
// its
// tokens together, and perhaps a shared expert.
#include "kernels/forward/bias.h"
#include "model/cuda_experts.h"
#include "serve/cuda_prompt.h"

namespace blockgtq {

/// x (n, hidden) += the feed-forward part.
void CudaPrompt::feed_forward(int layer, int64_t n) {
  const Config& c = weights_.config();
  const CudaLayerWeights& w = weights_.layers()[size_t(layer)];
  const blockgtq::Workspace& ws = ws_.feed_forward;
  const bool experts = w.experts.router.w != nullptr;
  in_pieces(n, slab(), [&](int64_t at, int64_t count) {
    float* const x = ws_.x + at * c.hidden;
    const void* const in = ws_.normed ? low(ws_.normed, at * c.hidden)
                                      : input({w.post_norm, w.post_norm_bias}, x, count, ws_.in,
                                              experts ? ws.in_float : nullptr);
    if (experts) return add_experts(w.experts, in, count, x);
    project(w.gate_up, in, count, ws.gate_up);
    activate(count, c.intermediate);
    add_output(w.down, w.output_norm, ws.act, count, x);
  });
}

/// act (n, width) from gate_up.
void CudaPrompt::activate(int64_t n, int64_t width) {
  const Config& c = weights_.config();
  cuda::GatedRows rows;
  rows.x = ws_.feed_forward.gate_up;
  rows.n = n;
  rows.width = width;
  rows.activation = activation_of(c);
  rows.layout = has_gates(c) ? cuda::GateLayout::halves : cuda::GateLayout::alone;
  rows.limit = float(c.swiglu_limit);
  rows.alpha = float(c.swiglu_alpha);
  rows.out = ws_.feed_forward.act;
  rows.type = weights_.type();
  cuda::activate(rows, stream_);
}

/// Chooses the experts of n tokens, and their weights, in device memory. Returns where the rows of each
/// expert begin, as group_by_expert(). Waits.
std::vector<int64_t> CudaPrompt::choose(const CudaExperts& w, int64_t n) {
  const Config& c = weights_.config();
  const blockgtq::Workspace& ws = ws_.feed_forward;
  const int64_t choices = n * c.moe.n_per_token;
  auto* const expert = routing_.as<int32_t>();
  int32_t* const row_token = expert + slab() * c.moe.n_per_token;
  int32_t* const position = row_token + slab() * c.moe.n_per_token;
  const CudaMatrix& router = w.router;
  blas_.multiply({router.w, ws.in_float, ws.router_logits, router.rows, router.cols, n, router.rows},
                 stream_);
  if (router.bias) cuda::add_bias(ws.router_logits, router.rows, n, router.rows, router.bias, 1, stream_);
  cuda::RoutingRule rule = routing_rule(c.moe);
  rule.scale *= float(c.residual_multiplier);
  rule.bias = w.choice_bias;
  cuda::route(rule, ws.router_logits, n, ws.expert, ws.weight, stream_);
  cuda::download(expert, ws.expert, size_t(choices) * sizeof(int32_t), stream_);
  stream_.synchronize();
  std::vector<int64_t> begin = group_by_expert(c.moe, expert, n, row_token, position);
  cuda::upload(ws.row_token, row_token, size_t(choices) * sizeof(int32_t), stream_);
  cuda::upload(ws.position, position, size_t(choices) * sizeof(int32_t), stream_);
  return begin;
}

/// x (n, hidden) += the weighted outputs of the tokens' experts, and that of the shared expert.
void CudaPrompt::add_experts(const CudaExperts& w, const void* in, int64_t n, float* x) {
  const Config& c = weights_.config();
  const blockgtq::Workspace& ws = ws_.feed_forward;
  const int64_t hidden = c.hidden, width = c.moe.intermediate, choices = n * c.moe.n_per_token;
  const std::vector<int64_t> begin = choose(w, n);
  cuda::gather_rows(in, hidden * cuda::bytes_of(weights_.type()), ws.row_token, choices, ws.gathered,
                    stream_);
  /// Calls f(expert, its first row, its rows) for every expert that has tokens.
  const auto each = [&](const auto& f) {
    for (int64_t e = 0; e < c.moe.n_experts; ++e)
      if (const int64_t first = begin[size_t(e)], rows = begin[size_t(e) + 1] - first; rows > 0)
        f(e, first, rows);
  };
  each([&](int64_t e, int64_t first, int64_t rows) {
    project(rows_of(w.gate_up, e * 2 * width, 2 * width, weights_.type()), low(ws.gathered, first * hidden),
            rows, ws.gate_up + first * 2 * width);
  });
  activate(choices, width);
  each([&](int64_t e, int64_t first, int64_t rows) {
    project(rows_of(w.down, e * hidden, hidden, weights_.type()), low(ws.act, first * width), rows,
            ws.expert_out + first * hidden);
  });
  cuda::add_weighted_rows(ws.expert_out, ws.position, ws.weight, n, c.moe.n_per_token, hidden, x, stream_);
  if (w.shared_gate_up.w) add_shared(w, in, n, x);
}

/// x (n, hidden) += the shared expert, times the sigmoid of its gate where it has one.
void CudaPrompt::add_shared(const CudaExperts& w, const void* in, int64_t n, float* x) {
  const blockgtq::Workspace& ws = ws_.feed_forward;
  project(w.shared_gate_up, in, n, ws.gate_up);
  activate(n, w.shared_down.cols);
  if (!w.shared_gate.w) return project(w.shared_down, ws.act, n, x, true);
  project(w.shared_down, ws.act, n, ws_.out);
  blas_.multiply({w.shared_gate.w, ws.in_float, ws.open, 1, w.shared_gate.cols, n, 1}, stream_);
  cuda::add_gated_rows(ws_.out, ws.open, float(weights_.config().residual_multiplier), n, w.shared_down.rows,
                       x, stream_);
}

}  // namespace blockgtq
