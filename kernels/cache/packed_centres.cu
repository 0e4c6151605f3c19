// Packed attention of layers whose values have centres.
#include "kernels/cache/packed_decode.cuh"

namespace blockgtq::cuda {

int decode_centres(const DecodeAttention& step, float* sums, const Stream& stream) {
  int splits = 0;
  with_dim(step.layer->dim, [&](auto dim) {
    with_centre_slabs(step.layer->centres.n, [&](auto slabs) {
      if constexpr (slabs.value > 0)
        splits = narrow(*step.layer) ? decode<dim.value, 1, true, slabs.value>(step, sums, stream)
                                     : decode<dim.value, 2, true, slabs.value>(step, sums, stream);
    });
  });
  return splits;
}

}  // namespace blockgtq::cuda
