#include "cache/cuda_layer_cache.h"

#include "cache/cuda_cache.h"
#include "cache/cuda_trellis_cache.h"

namespace blockgtq {

std::unique_ptr<CudaLayerCache> make_cuda_layer_cache(const PackedSpec& spec, int64_t longest,
                                                      const cuda::Stream& stream) {
  if (has_trellis(spec)) return std::make_unique<CudaTrellisCache>(spec, longest, stream);
  return std::make_unique<CudaCache>(spec, longest, stream);
}

}  // namespace blockgtq
