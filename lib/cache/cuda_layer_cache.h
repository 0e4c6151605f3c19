#pragma once
#include <cstdint>
#include <memory>

#include "cache/packed_cache.h"
#include "kernels/cache/append_token.h"
#include "kernels/cache/packed_attention.h"
#include "kernels/cache/packed_encode.h"
#include "kernels/cache/packed_prefill.h"

namespace blockgtq {

/// One layer's packed pages as the kernels write and read them, whatever their codes. What jobs say of the
/// layer itself is not read: it is set here.
class CudaLayerCache {
 public:
  virtual ~CudaLayerCache() = default;
  virtual const cuda::PackedLayer& packed() const = 0;  // what all codes have in common

  /// See cuda::encode_tokens().
  virtual void encode(cuda::EncodeTokens job, const cuda::Stream& stream) const = 0;

  /// See cuda::append_token(). The token goes into the packed pages by way of token.k and token.v where its
  /// codes take a kernel of their own; a step behind it has at most one position that is fresh.
  virtual void append(cuda::AppendToken token, const cuda::Stream& stream) const = 0;

  /// See cuda::decode_attention().
  virtual int64_t scratch_bytes(cuda::DecodeAttention step) const = 0;
  virtual void attend(cuda::DecodeAttention step, void* scratch, const cuda::Stream& stream) const = 0;

  /// For cuda::prefill_attention(): whose pages chunk.cache are.
  virtual void describe(cuda::PrefillAttention& chunk) const = 0;
};

/// A CudaTrellisCache where keys or values have trellis codes, else a CudaCache. longest: positions of the
/// longest sequence. Error: see require_trellis_pages().
std::unique_ptr<CudaLayerCache> make_cuda_layer_cache(const PackedSpec& spec, int64_t longest,
                                                      const cuda::Stream& stream);

}  // namespace blockgtq
