#pragma once
#include <memory>
#include <string>
#include <vector>

#include "bench_cache.h"
#include "hf/checkpoint.h"
#include "known_shapes.h"
#include "model/cuda_backend.h"

namespace blockgtq {

struct DecodeTime {
  std::vector<double> milliseconds;  // of every step, ascending
  double floor_milliseconds = 0;     // what the weights and pages that a step reads take at a copy's rate
  int64_t weight_bytes = 0, cache_bytes = 0, peak_bytes = 0;
  int64_t longest_context = 0;  // that the memory asked about holds
  double prefill_seconds = 0;   // for the prompts of all sequences, one after the other; 0: not measured
  int64_t prefill_tokens = 0;   // of all of them
};

/// A model on a GPU whose decoding steps are timed.
class DecodeBench {
 public:
  /// Of a checkpoint, or of a shape with random weights in bf16.
  DecodeBench(const Checkpoint& model, const CudaOptions& options);
  explicit DecodeBench(const Config& config);
  ~DecodeBench();

  /// `steps` steps behind context - steps positions, after some that warm up. memory: bytes that
  /// longest_context is asked for. prefill: the positions are those of random tokens, whose reading is timed;
  /// else they are arbitrary.
  DecodeTime time(const CacheBench& cache, int steps, int64_t memory, bool prefill) const;
  const Config& config() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
