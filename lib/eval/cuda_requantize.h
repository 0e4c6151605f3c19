#pragma once
#include <memory>

#include "eval/quantized_cache.h"

namespace blockgtq {

/// requantize() of keys and values in device memory. Linear codes (quant/linear_code.h) are made there; they
/// equal the CPU's except where two centroids are equally near. Their tables are uploaded when a cache is
/// first seen, and stay. Other codes are made on the CPU, from a copy.
class CudaRequantizer {
 public:
  CudaRequantizer();
  CudaRequantizer(const CudaRequantizer&) = delete;
  ~CudaRequantizer();
  /// As requantize(). layer.k and layer.v are in order on `stream` (a CUDA stream). Waits for the result. The
  /// layer's caches must outlive this object.
  int64_t requantize(const CachedLayer& layer, void* stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
