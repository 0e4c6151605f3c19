#pragma once
#include <cstdint>
#include <memory>

#include "cache/packed_cache.h"
#include "kernels/cache/append_token.h"
#include "kernels/cache/packed_attention.h"
#include "kernels/cache/packed_encode.h"
#include "kernels/cache/packed_prefill.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// Encodes into, and attends over, one layer's packed pages on a GPU, whatever their codes. The fields of a
/// job that describe the layer need not be set: the cache sets them.
class CudaLayerCache {
 public:
  virtual ~CudaLayerCache() = default;
  virtual const cuda::PackedLayer& packed() const = 0;  // what all kinds of codes have in common

  virtual int64_t table_bytes() const = 0;  // of device memory that it holds

  /// See cuda::encode_tokens().
  virtual void encode(cuda::EncodeTokens job, const cuda::Stream& stream) const = 0;

  /// See cuda::append_token(). Where codes have a kernel of their own, the token goes into the packed pages
  /// by way of token.k and token.v. After that call, a step has at most one fresh position.
  virtual void append(cuda::AppendToken token, const cuda::Stream& stream) const = 0;

  /// See cuda::decode_attention().
  virtual int64_t scratch_bytes(cuda::DecodeAttention step) const = 0;
  virtual void attend(cuda::DecodeAttention step, void* scratch, const cuda::Stream& stream) const = 0;

  /// Sets in `chunk` what cuda::prefill_attention() needs to read these pages.
  virtual void describe(cuda::PrefillAttention& chunk) const = 0;
};

/// Scratch memory that a step of `batch` sequences takes at most, whatever their lengths: over this layer's
/// pages, or pages of fp16 where it is null. beside: it may have fp16 pages beside packed ones, too.
int64_t most_scratch_bytes(const AttentionShape& shape, const CudaLayerCache* layer, int batch, bool beside);

/// A CudaTrellisCache where keys or values have trellis codes, else a CudaCache. longest: positions of the
/// longest sequence. Errors as require_trellis_pages().
std::unique_ptr<CudaLayerCache> make_cuda_layer_cache(const PackedSpec& spec, int64_t longest,
                                                      const cuda::Stream& stream);

}  // namespace blockgtq
