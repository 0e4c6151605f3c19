#pragma once
#include <memory>
#include <span>
#include <vector>

#include "kernels/device/graph.h"
#include "kernels/forward/matvec.h"
#include "serve/cuda_kv_cache.h"
#include "serve/cuda_weights.h"

namespace blockgtq {

/// Decoding on a GPU: one token of every sequence of a batch, from its id to the likeliest next one, as one
/// CUDA graph. weights and cache outlive this.
class CudaSteps {
 public:
  CudaSteps(const CudaWeights& weights, const CudaKvCache& cache, const cuda::Stream& stream);

  /// What the next step begins with: the tokens (B), and how many each sequence holds already (B); kIdle for
  /// one without pages: it takes part at position 0, and nobody is told what comes of it.
  static constexpr int32_t kIdle = -1;
  void set(std::span<const int32_t> tokens, std::span<const int32_t> positions);
  void set_tokens(std::span<const int32_t> tokens);

  /// Starts a step of sequences none of which holds more than `longest` tokens, the new one counted; at most
  /// the cache's capacity. Does not wait. The likeliest tokens become the next step's.
  void step(int64_t longest);

  /// Waits, and takes what the last step left. Exit::nonfinite where a logit of any step since set() was not
  /// finite.
  void wait();
  std::span<const int32_t> tokens() const;  // (B), after wait()
  void logits(float* to);                   // (B, vocab), of the last step; waits

  /// The angles of a layer's keys; cos null: it does not turn them.
  cuda::RopeTable rope(int layer) const;
  /// What the steps read that is not the cache's: weights, tables.
  int64_t bytes() const;

 private:
  void launch(int64_t longest);
  void layer(int l, int64_t longest);
  void project(const CudaMatrix& m, cuda::MatVec job);

  const CudaWeights& weights_;
  const CudaKvCache& cache_;
  const cuda::Stream& stream_;
  cuda::RopeTable rope_, local_rope_;
  cuda::Buffer angles_[4];
  cuda::Buffer x_, projected_, q_, heads_, act_, logits_, best_, tokens_, faults_;
  cuda::PinnedBuffer words_;  // (2, B): tokens, faults
  std::vector<bool> idle_;    // (B)
  std::unique_ptr<cuda::Graph> graph_;
  int64_t graph_longest_ = 0;
};

}  // namespace blockgtq
