// Packed attention of layers with a sliding window or a softcap.
#include "kernels/cache/packed_decode.cuh"

namespace blockgtq::cuda {

int decode_ruled(const DecodeAttention& step, float* sums, const Stream& stream) {
  int splits = 0;
  with_dim(step.layer->dim, [&](auto dim) {
    splits = narrow(*step.layer) ? decode<dim.value, 1, true, 0>(step, sums, stream)
                                 : decode<dim.value, 2, true, 0>(step, sums, stream);
  });
  return splits;
}

}  // namespace blockgtq::cuda
