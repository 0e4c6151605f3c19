#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "quant/stats.h"

namespace blockgtq {

/// The device twin of accumulate(): block statistics of activations that lie in GPU memory, the same bits.
/// Work is enqueued layer by layer; a layer's sums are taken over while the next ones compute.
class CudaStats {
 public:
  /// stats, whose shape, first_chunk and chunk_tokens are set, must outlive this. All chunks but the last
  /// have the same length; the first `from` tokens of each are left out. Uses the current device of the
  /// calling thread.
  /// on_layer, if any, is told of every layer that is whole, from add_layer and finish.
  explicit CudaStats(Stats& stats, int64_t from = 0, std::function<void(int layer)> on_layer = {});
  ~CudaStats();

  /// All chunks of one layer. q (T, Hq, D), k (T, H, D), v (T, H, Dv) or null: device memory that stays as it
  /// is until `stream` (a CUDA stream) has run what is enqueued on it here.
  void add_layer(int layer, const float* q, const float* k, const float* v, void* stream);

  /// Waits for the rest. Exit::nonfinite, here or in add_layer, as accumulate() has it.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
