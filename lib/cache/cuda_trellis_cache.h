#pragma once
#include <cstdint>

#include "cache/cuda_arrays.h"
#include "cache/trellis_cache.h"
#include "kernels/cache/trellis_attention.h"
#include "kernels/cache/trellis_encode.h"

namespace blockgtq {

/// What the kernels need to know of one layer's cache of trellis codes, in device memory.
class CudaTrellisCache {
 public:
  /// longest: positions of the longest sequence, which the angles of centred keys are computed for. Error:
  /// see require_trellis_pages().
  CudaTrellisCache(const PackedSpec& spec, int64_t longest, const cuda::Stream& stream);
  const cuda::TrellisLayer& layer() const { return layer_; }
  const cuda::TrellisEncoder& encoder() const { return encoder_; }

 private:
  cuda::TrellisLayer layer_;
  cuda::TrellisEncoder encoder_;
  DeviceArrays arrays_;
};

}  // namespace blockgtq
