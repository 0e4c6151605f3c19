#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "eval/evaluate.h"

namespace blockgtq {

/// The device twin of evaluate_layer(): the same codes and errors bit for bit, summed in another (fixed)
/// order. The quantizers of all layers are built and uploaded once; work is enqueued layer by layer and read
/// at the end. Head dimension at most 256. Methods that are not made of TQ-MSE groups alone have no kernel:
/// they are scored on the CPU from a copy of the layer's activations.
class CudaEvaluator {
 public:
  /// Uses the current device of the calling thread.
  explicit CudaEvaluator(const EvalSpec& spec);
  ~CudaEvaluator();

  /// q (T, Hq, D), k (T, H, D): device memory that stays as it is until `stream` (a CUDA stream, the same for
  /// all layers) has run what is enqueued on it here.
  void add_layer(int layer, const float* q, const float* k, int64_t n_tokens, void* stream);

  /// Waits, and returns the layers in the order they came.
  std::vector<LayerResult> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
