#pragma once
#include <cstdint>

#include "cache/cuda_arrays.h"
#include "cache/packed_cache.h"
#include "kernels/cache/append_token.h"
#include "kernels/cache/packed_attention.h"
#include "kernels/cache/packed_encode.h"

namespace blockgtq {

/// What the kernels need to know of one layer's cache, in device memory.
class CudaCache {
 public:
  /// longest: positions of the longest sequence, which the angles of centred keys are computed for.
  CudaCache(const PackedSpec& spec, int64_t longest, const cuda::Stream& stream);
  const cuda::PackedLayer& layer() const { return layer_; }
  const cuda::EncodeLayer& encoder() const { return encoder_; }
  const cuda::AppendLayer& appender() const { return appender_; }

 private:
  void make_appender(const PackedSpec& spec, const PageShape& page, const cuda::Stream& stream);

  cuda::PackedLayer layer_;
  cuda::EncodeLayer encoder_;
  cuda::AppendLayer appender_;
  DeviceArrays arrays_;
};

}  // namespace blockgtq
