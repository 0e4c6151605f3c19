#pragma once
#include <memory>
#include <span>
#include <vector>

#include "kernels/device/graph.h"
#include "kernels/forward/expert_matvec.h"
#include "kernels/forward/moe.h"
#include "kernels/forward/norm.h"
#include "serve/cuda_kv_cache.h"
#include "serve/cuda_weights.h"

namespace blockgtq {

/// Decoding on a GPU, as one CUDA graph: one token of every sequence of a batch, from its id to the likeliest
/// next token. weights and cache must outlive this object.
class CudaSteps {
 public:
  CudaSteps(const CudaWeights& weights, const CudaKvCache& cache, const cuda::Stream& stream);

  /// Sets the input of the next step: the tokens (B), and how many tokens each sequence holds (B). kIdle
  /// stands for a sequence without pages: it takes part at position 0, and its result is not used.
  static constexpr int32_t kIdle = -1;
  void set(std::span<const int32_t> tokens, std::span<const int32_t> positions);
  void set_tokens(std::span<const int32_t> tokens);

  /// Starts a step. No sequence holds more than `longest` tokens, the new one included; `longest` is at most
  /// the cache's capacity. Does not wait. The likeliest tokens become the input of the next step.
  void step(int64_t longest);

  /// Waits for the last step and fetches its tokens. Exit::nonfinite where a logit of any step since set()
  /// was not finite.
  void wait();
  std::span<const int32_t> tokens() const;  // (B), after wait()
  void logits(float* to);                   // (B, vocab), of the last step; waits

  /// The RoPE angles of a layer's keys. cos is null where the layer does not rotate.
  cuda::RopeTable rope(int layer) const;

 private:
  /// The experts of every token and their weights, (B, each).
  struct Routes {
    int each = 0;
    cuda::Buffer experts, weights;
  };

  void launch(int64_t longest);
  cuda::MatVec normed(const float* weight, const float* bias);
  cuda::MatVec product(const CudaMatrix& m, cuda::MatVec job) const;
  void project(const CudaMatrix& m, const cuda::MatVec& job);
  void add_output(const CudaMatrix& m, cuda::MatVec job, const CudaNorm& norm);
  cuda::Norm norm_of(const float* x, int64_t dim, const float* weight) const;
  void attention(int l, int64_t longest);

  // cuda_step_feed_forward.cpp
  void make_room();
  void feed_forward(const CudaLayerWeights& w);
  void dense(const CudaMatrix& gate_up, const cuda::MatVec& in);
  void add_experts(const CudaExperts& w, const cuda::MatVec& in);
  void choose(const CudaMatrix& router, const cuda::MatVec& in, cuda::RoutingRule rule, const Routes& to);
  cuda::ExpertMatVec of_experts(const CudaMatrix& m, const cuda::MatVec& job, int64_t n_experts,
                                const Routes& routes) const;

  const CudaWeights& weights_;
  const CudaKvCache& cache_;
  const cuda::Stream& stream_;
  cuda::RopeTable rope_, local_rope_;
  cuda::Buffer angles_[4];
  cuda::Buffer x_, projected_, q_, heads_, act_, logits_, best_, tokens_, faults_;
  cuda::Buffer normed_, out_;                // (B, hidden), where norms are not fused into the products
  cuda::Buffer up_;                          // (B, intermediate), where the feed-forward part has no gate
  cuda::Buffer router_logits_, expert_act_;  // (B, E), (B, experts of a token, I)
  Routes routed_, shared_;                   // shared_: the one shared expert, with its gate as the weight
  cuda::PinnedBuffer words_;                 // (2, B): tokens, faults
  std::vector<bool> idle_;                   // (B)
  std::unique_ptr<cuda::Graph> graph_;
  int64_t graph_longest_ = 0;
};

}  // namespace blockgtq
