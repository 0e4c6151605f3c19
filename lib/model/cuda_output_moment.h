#pragma once
#include <memory>

#include "model/output_moment.h"

namespace blockgtq {

/// output_moment() on a GPU, with the same bits. The host reads the weights, and the device adds.
class CudaOutputMoment {
 public:
  /// For W_o of so many rows. Takes bytes() on this thread's current device. Any thread may call moment().
  CudaOutputMoment(int64_t rows, const AttentionShape& shape);
  CudaOutputMoment(const CudaOutputMoment&) = delete;
  ~CudaOutputMoment();
  std::vector<double> moment(const Linear& o);

  static int64_t bytes(int64_t rows, const AttentionShape& shape);
  /// Whether there are kernels for values of this dimension.
  static bool supported(const AttentionShape& shape);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
