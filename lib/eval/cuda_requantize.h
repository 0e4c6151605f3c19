#pragma once
#include <memory>

#include "eval/quantized_cache.h"

namespace blockgtq {

/// requantize() of keys and values that lie in device memory. Codes that are linear (quant/linear_code.h) are
/// made there: equal to the host's but where two are equally near; their tables are uploaded when a cache is
/// first seen and stay. Other codes are made on the host, from a copy.
class CudaRequantizer {
 public:
  CudaRequantizer();
  CudaRequantizer(const CudaRequantizer&) = delete;
  ~CudaRequantizer();
  /// As requantize(): layer.k and layer.v are in order on `stream` (a CUDA stream). Waits for the result. The
  /// layer's caches outlive this.
  int64_t requantize(const CachedLayer& layer, void* stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace blockgtq
