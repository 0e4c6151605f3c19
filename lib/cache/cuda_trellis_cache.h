#pragma once
#include <cstdint>

#include "cache/cuda_arrays.h"
#include "cache/cuda_layer_cache.h"
#include "cache/trellis_cache.h"
#include "kernels/cache/trellis_attention.h"
#include "kernels/cache/trellis_encode.h"

namespace blockgtq {

/// One layer's cache of trellis codes on a GPU: the tables that the kernels need, in device memory.
class CudaTrellisCache final : public CudaLayerCache {
 public:
  /// longest: positions of the longest sequence, for which the angles of centred keys are computed. Errors as
  /// require_trellis_pages().
  CudaTrellisCache(const PackedSpec& spec, int64_t longest, const cuda::Stream& stream);
  const cuda::TrellisLayer& layer() const { return layer_; }
  const cuda::TrellisEncoder& encoder() const { return encoder_; }

  const cuda::PackedLayer& packed() const override { return layer_.packed; }
  int64_t table_bytes() const override { return arrays_.bytes(); }
  void encode(cuda::EncodeTokens job, const cuda::Stream& stream) const override;
  void append(cuda::AppendToken token, const cuda::Stream& stream) const override;
  int64_t scratch_bytes(cuda::DecodeAttention step) const override;
  void attend(cuda::DecodeAttention step, void* scratch, const cuda::Stream& stream) const override;
  void describe(cuda::PrefillAttention& chunk) const override;

 private:
  cuda::TrellisLayer layer_;
  cuda::TrellisEncoder encoder_;
  DeviceArrays arrays_;
};

}  // namespace blockgtq
