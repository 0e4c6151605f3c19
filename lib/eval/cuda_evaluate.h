#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "eval/evaluate.h"

namespace blockgtq {

/// evaluate_layer() on a GPU: the same codes and errors bit for bit, summed in another, fixed order. The
/// quantizers of all layers are built and uploaded once. Work is enqueued layer by layer, and results are
/// read at the end. Head dimension at most 256. A method that is not made of TQ-MSE groups alone has no
/// kernel; it is scored on the CPU from a copy of the layer's activations.
class CudaEvaluator {
 public:
  /// Uses the current device of the calling thread.
  explicit CudaEvaluator(const EvalSpec& spec);
  ~CudaEvaluator();

  /// q (T, Hq, D), k (T, H, D) in device memory. They must not change until `stream` (a CUDA stream, the same
  /// for all layers) has run what this enqueues on it.
  void add_layer(int layer, const float* q, const float* k, int64_t n_tokens, void* stream);

  /// Waits, and returns the layers in the order in which they were added.
  std::vector<LayerResult> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
