// Attention of one new token per sequence over keys and values in trellis codes. trellis_decode.cuh has the
// kernel and describes it.
#include "kernels/cache/trellis_attention.h"

#include "kernels/cache/trellis_decode.cuh"

namespace blockgtq::cuda {
namespace {

int64_t trellis_sums_bytes(const TrellisLayer& layer, const DecodeAttention& step) {
  if (!has_packed(step)) return 0;
  int splits = 0;
  with_shape(layer.packed, [&](auto dim, auto tiles) {
    splits = with_centre_slabs(layer.packed.centres.n, [&](auto slabs) {
      return make_plan<dim.value, tiles.value, slabs.value>(layer, step).splits;
    });
  });
  return split_sums_bytes(layer.packed.dim + centre_rows(layer.packed.centres.n), layer.packed.n_heads,
                          layer.packed.n_kv_heads, step.batch, splits);
}

/// The step, with the part of a layer that does not depend on the kind of codes.
DecodeAttention with_layer(DecodeAttention step, const TrellisLayer& layer) {
  step.layer = &layer.packed;
  return step;
}

}  // namespace

int64_t trellis_scratch_bytes(const TrellisLayer& layer, const DecodeAttention& of_step) {
  const DecodeAttention step = with_layer(of_step, layer);
  if (!has_packed(step)) return exact_scratch_bytes(window_of(step));
  return trellis_sums_bytes(layer, step) + (step.exact ? exact_sums_bytes(window_of(step)) : 0);
}

void trellis_attention(const TrellisLayer& layer, const DecodeAttention& of_step, void* scratch,
                       const Stream& stream) {
  const DecodeAttention step = with_layer(of_step, layer);
  check_step(step, scratch);
  check(step.rule.plain(), "trellis attention: rules");
  if (!has_packed(step)) return exact_attention(window_of(step), scratch, stream);
  MergeSplits merge = merge_of(step);
  float* const sums = static_cast<float*>(scratch);
  if (layer.packed.centres.n > 0)
    merge.packed = {sums, trellis_with_centres(layer, step, sums, stream)};
  else
    with_shape(layer.packed, [&](auto dim, auto tiles) {
      merge.packed = {sums, decode<dim.value, tiles.value, 0>(layer, step, sums, stream)};
    });
  if (step.exact)
    merge.exact = exact_sums(window_of(step), sums + trellis_sums_bytes(layer, step) / 4, stream);
  merge_splits(merge, stream);
}

}  // namespace blockgtq::cuda
