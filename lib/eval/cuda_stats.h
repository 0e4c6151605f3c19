#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "quant/stats.h"

namespace blockgtq {

/// accumulate() on a GPU: block statistics of activations in device memory, the same bits. Work is enqueued
/// layer by layer; a layer's sums are copied to `stats` while the next layers compute.
class CudaStats {
 public:
  /// The shape, first_chunk and chunk_tokens of `stats` are set, and `stats` must outlive this object. All
  /// chunks but the last have the same length. The first `from` tokens of each chunk are left out. Uses the
  /// current device of the calling thread. on_layer, if any, is called for every layer that is complete, from
  /// add_layer() and finish().
  explicit CudaStats(Stats& stats, int64_t from = 0, std::function<void(int layer)> on_layer = {});
  ~CudaStats();

  /// Adds all chunks of one layer. q (T, Hq, D), k (T, H, D), v (T, H, Dv) or null, in device memory. They
  /// must not change until `stream` (a CUDA stream) has run what this enqueues on it.
  void add_layer(int layer, const float* q, const float* k, const float* v, void* stream);

  /// Waits for the rest. Exit::nonfinite, here or in add_layer(), as in accumulate().
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
