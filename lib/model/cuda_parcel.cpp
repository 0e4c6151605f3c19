#include "model/cuda_parcel.h"

#include "base/error.h"

namespace blockgtq {

namespace {

constexpr int64_t kAlignment = 256;

void place(Parcel& parcel, const Tensor& tensor, bool joined) {
  const bool to_float = tensor.shape.size() != 2 || is_quantized(tensor.dtype);
  if (!joined) parcel.bytes = (parcel.bytes + kAlignment - 1) / kAlignment * kAlignment;
  parcel.items.push_back({&tensor, parcel.bytes, to_float});
  check(parcel.offsets.emplace(tensor.data.data(), parcel.bytes).second, "a tensor twice in one parcel");
  parcel.bytes += tensor.elements() * (to_float ? 4 : block_size(tensor.dtype).bytes);
}

void place(Parcel& parcel, const Linear& linear) {
  if (linear.weight.shape.empty()) return;  // not of this kind of attention
  place(parcel, linear.weight, false);
  if (linear.bias) place(parcel, *linear.bias, false);
}

void place(Parcel& parcel, const std::optional<Tensor>& tensor) {
  if (tensor) place(parcel, *tensor, false);
}

void place(Parcel& parcel, const Norm& norm) {
  place(parcel, norm.weight, false);
  place(parcel, norm.bias);
}

void place(Parcel& parcel, const std::optional<Norm>& norm) {
  if (norm) place(parcel, *norm);
}

void place(Parcel& parcel, const Mlp& mlp) {
  if (mlp.both) {
    place(parcel, *mlp.both);
  } else if (mlp.gate.weight.shape.empty()) {
    place(parcel, mlp.up);
  } else {
    place(parcel, mlp.gate.weight, false);
    place(parcel, mlp.up.weight, true);
    place(parcel, mlp.gate.bias);
    place(parcel, mlp.up.bias);
  }
  place(parcel, mlp.down);
}

void place(Parcel& parcel, const DeltaWeights& delta) {
  for (const Linear& linear : delta.in) place(parcel, linear);
  for (const Tensor* tensor : {&delta.conv, &delta.decay, &delta.dt_bias, &delta.norm})
    place(parcel, *tensor, false);
  place(parcel, delta.out);
}

}  // namespace

Parcel pack_layer(const LayerWeights& w, bool projections_only) {
  Parcel out;
  place(out, w.input_norm);
  for (const Linear* linear : {&w.q, &w.q_a, &w.q_b, &w.kv_a, &w.k, &w.v}) place(out, *linear);
  for (const std::optional<Tensor>* norm : {&w.q_a_norm, &w.q_norm, &w.k_norm}) place(out, *norm);
  if (projections_only) return out;
  if (w.delta) place(out, *w.delta);
  place(out, w.kv_a_norm);
  place(out, w.kv_b);
  place(out, w.sinks);
  place(out, w.o);
  for (const std::optional<Norm>* norm : {&w.attention_norm, &w.post_norm, &w.output_norm}) place(out, *norm);
  if (w.mlp) place(out, *w.mlp);
  if (w.router) place(out, *w.router);
  place(out, w.choice_bias);
  for (const Mlp& expert : w.experts) place(out, expert);
  if (w.shared) place(out, *w.shared);
  if (w.shared_gate) place(out, *w.shared_gate);
  return out;
}

Parcel pack_output(const OuterWeights& outer) {
  Parcel out;
  place(out, outer.final_norm);
  place(out, outer.lm_head);
  return out;
}

cuda::FloatType float_type(DType dtype) {
  check(dtype != DType::other, "weights of a float type");
  return dtype == DType::bf16  ? cuda::FloatType::bf16
         : dtype == DType::f16 ? cuda::FloatType::f16
                               : cuda::FloatType::f32;
}

}  // namespace blockgtq
