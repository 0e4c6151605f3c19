#include "cache/cuda_layer_cache.h"

#include "cache/cuda_cache.h"
#include "cache/cuda_trellis_cache.h"
#include "kernels/cache/merge.h"

namespace blockgtq {

int64_t most_scratch_bytes(const AttentionShape& shape, const CudaLayerCache* layer, int batch, bool beside) {
  const auto sums = [&](int centres, int splits) {
    const int rows = shape.layout.head_dim + cuda::centre_rows(centres);
    return cuda::split_sums_bytes(rows, shape.n_heads, shape.n_kv_heads, batch, splits);
  };
  return sums(layer ? layer->packed().centres.n : 0, cuda::kMostSplits) +
         (beside ? sums(0, cuda::kMostSplitsBeside) : 0);
}

std::unique_ptr<CudaLayerCache> make_cuda_layer_cache(const PackedSpec& spec, int64_t longest,
                                                      const cuda::Stream& stream) {
  if (has_trellis(spec)) return std::make_unique<CudaTrellisCache>(spec, longest, stream);
  return std::make_unique<CudaCache>(spec, longest, stream);
}

}  // namespace blockgtq
