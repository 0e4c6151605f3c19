#pragma once
#include <cstdint>

#include "cache/cuda_arrays.h"
#include "cache/cuda_layer_cache.h"

namespace blockgtq {

/// One layer's cache of scalar codes on a GPU: the tables that the kernels need, in device memory.
class CudaCache final : public CudaLayerCache {
 public:
  /// longest: positions of the longest sequence, for which the angles of centred keys are computed.
  CudaCache(const PackedSpec& spec, int64_t longest, const cuda::Stream& stream);
  const cuda::PackedLayer& layer() const { return layer_; }
  const cuda::EncodeLayer& encoder() const { return encoder_; }
  const cuda::AppendLayer& appender() const { return appender_; }

  const cuda::PackedLayer& packed() const override { return layer_; }
  int64_t table_bytes() const override { return arrays_.bytes(); }
  void encode(cuda::EncodeTokens job, const cuda::Stream& stream) const override;
  void append(cuda::AppendToken token, const cuda::Stream& stream) const override;
  int64_t scratch_bytes(cuda::DecodeAttention step) const override;
  void attend(cuda::DecodeAttention step, void* scratch, const cuda::Stream& stream) const override;
  void describe(cuda::PrefillAttention& chunk) const override;

 private:
  void make_appender(const PackedSpec& spec, const PageShape& page, const cuda::Stream& stream);

  cuda::PackedLayer layer_;
  cuda::EncodeLayer encoder_;
  cuda::AppendLayer appender_;
  DeviceArrays arrays_;
};

}  // namespace blockgtq
