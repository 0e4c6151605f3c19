// Attention over trellis codes of layers whose values have centres.
#include "kernels/cache/trellis_decode.cuh"

namespace blockgtq::cuda {

int trellis_with_centres(const TrellisLayer& layer, const DecodeAttention& step, float* sums,
                         const Stream& stream) {
  int splits = 0;
  with_shape(layer.packed, [&](auto dim, auto tiles) {
    with_centre_slabs(layer.packed.centres.n, [&](auto slabs) {
      if constexpr (slabs.value > 0)
        splits = decode<dim.value, tiles.value, slabs.value>(layer, step, sums, stream);
    });
  });
  return splits;
}

}  // namespace blockgtq::cuda
