// The feed-forward part of a decoding step: dense; or the experts that a router chooses on the device, and
// perhaps a shared one. All products read the layer's x before any of them adds to it.
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "model/cuda_experts.h"
#include "serve/cuda_steps.h"

namespace blockgtq {
namespace {

cuda::Buffer room_for(int64_t n) {
  return cuda::Buffer(size_t(n) * sizeof(float));
}

}  // namespace

/// Exit::device where a batch is too large for the model's experts.
void CudaSteps::make_room() {
  const Config& c = weights_.config();
  const MoeConfig& moe = c.moe;
  const int64_t n = cache_.batch(), shared = moe.n_experts > 0 ? moe.shared_intermediate : 0;
  act_ = room_for(n * std::max<int64_t>(c.intermediate, shared));
  if (c.norm_form == NormForm::layer || c.norm_place == NormPlace::parallel) normed_ = room_for(n * c.hidden);
  if (c.norm_place == NormPlace::after || c.norm_place == NormPlace::both) out_ = room_for(n * c.hidden);
  if (!has_gates(c)) up_ = room_for(n * c.intermediate);
  if (moe.n_experts == 0) return;
  const int64_t most =
      std::min(cuda::kMaxVisits / moe.n_per_token,
               int(cuda::max_expert_vector_bytes() / (c.hidden * cuda::bytes_of(weights_.type()))));
  if (n > most)
    throw Error(
        Exit::device,
        fmt::format("a step of {} sequences: {} experts of each, {} numbers wide: at most {} sequences", n,
                    moe.n_per_token, c.hidden, most),
        "fewer sequences");
  router_logits_ = room_for(n * moe.n_experts);
  expert_act_ = room_for(n * moe.n_per_token * moe.intermediate);
  for (Routes* const routes : {&routed_, &shared_}) {
    routes->each = routes == &routed_ ? moe.n_per_token : 1;
    routes->experts = room_for(n * routes->each);
    routes->weights = room_for(n * routes->each);
  }
}

void CudaSteps::feed_forward(const CudaLayerWeights& w) {
  cuda::MatVec in;
  if (weights_.config().norm_place == NormPlace::parallel)
    in.x = normed_.as<float>();  // the norm that attention has read
  else
    in = normed(w.post_norm, w.post_norm_bias);
  if (w.experts.router.w) return add_experts(w.experts, in);
  dense(w.gate_up, in);
  cuda::MatVec down;
  down.x_low = act_.as();
  add_output(w.down, down, w.output_norm);
}

/// act_ = the activation of a dense part, or of a shared expert.
void CudaSteps::dense(const CudaMatrix& gate_up, const cuda::MatVec& in) {
  const Config& c = weights_.config();
  cuda::MatVec job = in;
  if (has_gates(c)) {
    job.gated = act_.as();
    job.activation = activation_of(c);
    return project(gate_up, job);
  }
  job.y = up_.as<float>();
  project(gate_up, job);
  cuda::GatedRows rows;
  rows.x = up_.as<float>();
  rows.n = cache_.batch();
  rows.width = gate_up.rows;
  rows.activation = activation_of(c);
  rows.layout = cuda::GateLayout::alone;
  rows.out = act_.as();
  rows.type = weights_.type();
  cuda::activate(rows, stream_);
}

/// Chooses experts by the logits of a float32 router, as many vectors at a time as its products take.
void CudaSteps::choose(const CudaMatrix& router, const cuda::MatVec& in, cuda::RoutingRule rule,
                       const Routes& to) {
  const int64_t most =
      std::max<int64_t>(1, cuda::max_vector_bytes() / (router.cols * int64_t(sizeof(float))));
  cuda::MatVec job = product(router, in);
  job.type = cuda::FloatType::f32;
  for (int64_t first = 0; first < cache_.batch(); first += most) {
    job.n = int(std::min(most, cache_.batch() - first));
    job.x = in.x + first * router.cols;
    job.y = router_logits_.as<float>() + first * router.rows;
    cuda::matvec(job, stream_);
  }
  cuda::route(rule, router_logits_.as<float>(), cache_.batch(), to.experts.as<int32_t>(),
              to.weights.as<float>(), stream_);
}

/// The job with the matrices of those of n_experts that tokens go to.
cuda::ExpertMatVec CudaSteps::of_experts(const CudaMatrix& m, const cuda::MatVec& job, int64_t n_experts,
                                         const Routes& routes) const {
  const Config& c = weights_.config();
  cuda::ExpertMatVec out;
  out.product = product(m, job);
  out.product.rows = m.rows / n_experts;
  out.product.activation = activation_of(c);
  out.n_per_token = routes.each;
  out.expert = routes.experts.as<int32_t>();
  if (job.add) out.weight = routes.weights.as<float>();
  out.limit = float(c.swiglu_limit);
  out.alpha = float(c.swiglu_alpha);
  return out;
}

void CudaSteps::add_experts(const CudaExperts& w, const cuda::MatVec& in) {
  const MoeConfig& moe = weights_.config().moe;
  cuda::RoutingRule rule = routing_rule(moe);
  rule.bias = w.choice_bias;
  choose(w.router, in, rule, routed_);
  if (w.shared_gate.w) {  // the gate is the weight of the only expert
    cuda::RoutingRule only{1, 1};
    only.sigmoid = true;
    choose(w.shared_gate, in, only, shared_);
  }
  cuda::MatVec gate_up = in;
  gate_up.gated = expert_act_.as();
  cuda::expert_matvec(of_experts(w.gate_up, gate_up, moe.n_experts, routed_), stream_);
  if (w.shared_gate_up.w) dense(w.shared_gate_up, in);

  cuda::MatVec down;
  down.x_low = expert_act_.as();
  down.y = x_.as<float>();
  down.add = true;
  cuda::expert_matvec(of_experts(w.down, down, moe.n_experts, routed_), stream_);
  down.x_low = act_.as();
  if (w.shared_gate.w)
    cuda::expert_matvec(of_experts(w.shared_down, down, 1, shared_), stream_);
  else if (w.shared_down.w)
    project(w.shared_down, down);
}

}  // namespace blockgtq
