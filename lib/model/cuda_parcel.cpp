#include "model/cuda_parcel.h"

#include <stdexcept>

#include "base/error.h"

namespace blockgtq {

namespace {

constexpr int64_t kAlignment = 256;

void place(Parcel& parcel, const Tensor& tensor, bool joined) {
  if (!joined) parcel.bytes = (parcel.bytes + kAlignment - 1) / kAlignment * kAlignment;
  parcel.items.push_back({&tensor, parcel.bytes, lies_as_float(tensor)});
  check(parcel.offsets.emplace(tensor.data.data(), parcel.bytes).second, "a tensor twice in one parcel");
  parcel.bytes += parcel.items.back().bytes();
}

void place(Parcel& parcel, const Linear& linear) {
  if (linear.weight.shape.empty()) return;  // this kind of attention does not have it
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

bool lies_as_float(const Tensor& tensor) {
  return tensor.shape.size() != 2 || tensor.grid;
}

cuda::FloatType float_type(DType dtype) {
  check(dtype != DType::other, "weights of a float type");
  return dtype == DType::bf16  ? cuda::FloatType::bf16
         : dtype == DType::f16 ? cuda::FloatType::f16
                               : cuda::FloatType::f32;
}

bool is_stored_as(const Tensor& weight, cuda::FloatType type) {
  if (lies_as_float(weight)) return type == cuda::FloatType::f32;
  return !is_quantized(weight.dtype) && float_type(weight.dtype) == type;
}

cuda::BlockType block_type(DType dtype) {
  switch (dtype) {
    case DType::q8_0:
      return cuda::BlockType::q8_0;
    case DType::q4_0:
      return cuda::BlockType::q4_0;
    case DType::q4_1:
      return cuda::BlockType::q4_1;
    case DType::q5_0:
      return cuda::BlockType::q5_0;
    case DType::q5_1:
      return cuda::BlockType::q5_1;
    case DType::q2_k:
      return cuda::BlockType::q2_k;
    case DType::q3_k:
      return cuda::BlockType::q3_k;
    case DType::q4_k:
      return cuda::BlockType::q4_k;
    case DType::q5_k:
      return cuda::BlockType::q5_k;
    case DType::q6_k:
      return cuda::BlockType::q6_k;
    case DType::iq4_nl:
      return cuda::BlockType::iq4_nl;
    case DType::iq4_xs:
      return cuda::BlockType::iq4_xs;
    case DType::mxfp4:
      return cuda::BlockType::mxfp4;
    default:
      throw std::logic_error("weights of a quantized type");
  }
}

}  // namespace blockgtq
