// Attention of one new token per sequence over packed keys and values. packed_decode.cuh has the kernel
// and describes it.
#include "kernels/cache/packed_decode.cuh"
#include "kernels/cache/short_attention.h"

namespace blockgtq::cuda {
namespace {

template <int kCentreSlabs>
int64_t sums_bytes(const DecodeAttention& step) {
  const PackedLayer& layer = *step.layer;
  int splits = 0;
  with_dim(layer.dim, [&](auto dim) {
    splits = narrow(layer) ? make_plan<dim.value, 1, kCentreSlabs>(step).splits
                           : make_plan<dim.value, 2, kCentreSlabs>(step).splits;
  });
  return split_sums_bytes(layer.dim + 16 * kCentreSlabs, layer.n_heads, layer.n_kv_heads, step.batch, splits);
}

int64_t packed_sums_bytes(const DecodeAttention& step) {
  if (!has_packed(step)) return 0;
  return with_centre_slabs(step.layer->centres.n, [&](auto slabs) { return sums_bytes<slabs.value>(step); });
}

/// Leaves the sums of packed splits. Returns their number.
int packed_sums(const DecodeAttention& step, float* sums, const Stream& stream) {
  if (step.layer->centres.n > 0) return decode_centres(step, sums, stream);
  if (step.rule.of_kernels()) return decode_ruled(step, sums, stream);
  int splits = 0;
  with_dim(step.layer->dim, [&](auto dim) {
    splits = narrow(*step.layer) ? decode<dim.value, 1, false, 0>(step, sums, stream)
                                 : decode<dim.value, 2, false, 0>(step, sums, stream);
  });
  return splits;
}

}  // namespace

int64_t decode_scratch_bytes(const DecodeAttention& step) {
  if (!has_packed(step)) return exact_scratch_bytes(window_of(step));
  return packed_sums_bytes(step) + (step.exact ? exact_sums_bytes(window_of(step)) : 0);
}

void decode_attention(const DecodeAttention& step, void* scratch, const Stream& stream) {
  check_step(step, scratch);
  if (!has_packed(step)) return exact_attention(window_of(step), scratch, stream);
  if (short_attention(step, stream)) return;
  MergeSplits merge = merge_of(step);
  float* const sums = static_cast<float*>(scratch);
  merge.packed = {sums, packed_sums(step, sums, stream)};
  if (step.exact) merge.exact = exact_sums(window_of(step), sums + packed_sums_bytes(step) / 4, stream);
  merge_splits(merge, stream);
}

}  // namespace blockgtq::cuda
