#pragma once
#include <memory>

#include "eval/divergence.h"

namespace blockgtq {

/// ExactLogits in device memory: compares logits that lie there. KL is within 1e-6 of the CPU's.
class CudaExactLogits {
 public:
  /// For a window of up to `n_tokens`. Takes this many bytes of device memory.
  static int64_t bytes(int64_t n_tokens, int64_t vocab) { return n_tokens * vocab * int64_t(sizeof(float)); }
  CudaExactLogits(int64_t n_tokens, int64_t vocab);
  CudaExactLogits(const CudaExactLogits&) = delete;
  ~CudaExactLogits();

  /// As in ExactLogits. logits are in device memory, in order on `stream` (a CUDA stream); next and scores
  /// are in host memory. compare() waits for the result.
  void set(int64_t first, int64_t n, const float* logits, void* stream);
  void compare(int64_t first, int64_t n, const float* logits, const int32_t* next, TokenScore* scores,
               void* stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
