#pragma once
#include <memory>

#include "model/output_moment.h"

namespace blockgtq {

/// output_moment() on a GPU, to the last bit. The weights are read here and summed up there.
class CudaOutputMoment {
 public:
  /// For W_o with so many rows: takes bytes() of the device in use by this thread. Any thread may ask.
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
