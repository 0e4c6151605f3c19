#include "serve/cuda_weights.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/stop.h"
#include "kernels/forward/convert.h"
#include "kernels/forward/dequantize.h"
#include "kernels/forward/random_fill.h"
#include "kernels/forward/reorder.h"
#include "model/cuda_plan.h"
#include "model/cuda_weight_stream.h"
#include "serve/cuda_sequence.h"

namespace blockgtq {
namespace {

constexpr float kRandomSize = 0.02f;  // standard deviation, as in the initialization of models

template <class T>
T* mine(const T* p) {  // this class may write to its own memory
  return const_cast<T*>(p);
}

/// Copies a tensor from its parcel to its final place.
class Placing {
 public:
  Placing(const Parcel& parcel, const std::byte* base, cuda::FloatType type, const cuda::Stream& stream)
      : parcel_(parcel), base_(base), type_(type), stream_(stream) {}

  /// Writes rows [first, first + rows of w) of the matrix. interleaved: rows of the first and of the second
  /// half of w alternate.
  void matrix(const CudaMatrix& to, int64_t first, const Linear& w, bool interleaved = false) const {
    matrix(to, first, w, type_, interleaved);
  }
  /// The same for a matrix that is float32 whatever the products' type is.
  void exact_matrix(const CudaMatrix& to, const Linear& w) const {
    matrix(to, 0, w, cuda::FloatType::f32, false);
  }
  void vector(const float* to, const Tensor& from) const { convert(from, mine(to), cuda::FloatType::f32); }
  void norm(const float* weight, const float* bias, const std::optional<Norm>& from) const {
    if (!from) return check(!weight, "a norm's place without a norm");
    vector(weight, from->weight);
    if (!bias) return check(!from->bias, "a bias without a place");
    if (from->bias)
      vector(bias, *from->bias);
    else
      cuda::fill_zero(mine(bias), size_t(from->weight.elements()) * sizeof(float), stream_);
  }
  void mlp(const CudaMatrix& gate_up, const CudaMatrix& down, int64_t expert, const Mlp& from) const {
    const int64_t width = from.width();
    if (from.both) {
      matrix(gate_up, expert * 2 * width, *from.both, from.interleaved);
    } else if (from.gate.weight.shape.empty()) {
      matrix(gate_up, 0, from.up);
    } else {
      matrix(gate_up, expert * 2 * width, from.gate);
      matrix(gate_up, (expert * 2 + 1) * width, from.up);
    }
    matrix(down, expert * from.down.rows(), from.down);
  }

 private:
  void matrix(const CudaMatrix& to, int64_t first, const Linear& w, cuda::FloatType type,
              bool interleaved) const {
    check(w.cols() == to.cols && first + w.rows() <= to.rows, "a resident matrix");
    auto* const at = static_cast<std::byte*>(mine(to.w)) + first * to.cols * cuda::bytes_of(type);
    if (w.transposed)
      reorder(w.weight, w.rows(), interleaved, at, type);
    else
      check(!interleaved, "interleaved rows"), convert(w.weight, at, type);
    if (!to.bias) return check(!w.bias, "a bias without a place");
    float* const bias = mine(to.bias) + first;
    if (!w.bias)
      cuda::fill_zero(bias, size_t(w.rows()) * sizeof(float), stream_);
    else if (interleaved)
      reorder(*w.bias, w.rows(), interleaved, bias, cuda::FloatType::f32);
    else
      vector(bias, *w.bias);
  }
  cuda::FloatType type_of(const Tensor& from) const {
    return lies_as_float(from) ? cuda::FloatType::f32 : float_type(from.dtype);
  }
  const std::byte* at(const Tensor& from) const { return base_ + parcel_.offset_of(from); }
  /// to (rows, cols) from a tensor that is stored as (cols, rows).
  void reorder(const Tensor& from, int64_t rows, bool interleaved, void* to, cuda::FloatType type) const {
    cuda::reorder({at(from), type_of(from), rows, from.elements() / rows, interleaved, to, type}, stream_);
  }
  void convert(const Tensor& from, void* to, cuda::FloatType type) const {
    const int64_t n = from.elements();
    if (!lies_as_float(from) && is_quantized(from.dtype))
      cuda::dequantize(block_type(from.dtype), at(from), n / block_size(from.dtype).elements, to, type,
                       stream_);
    else
      cuda::convert(at(from), type_of(from), to, type, n, stream_);
  }

  const Parcel& parcel_;
  const std::byte* base_;
  cuda::FloatType type_;
  const cuda::Stream& stream_;
};

void place_experts(const Placing& place, const LayerWeights& from, const CudaExperts& to) {
  place.exact_matrix(to.router, *from.router);
  if (to.choice_bias) place.vector(to.choice_bias, *from.choice_bias);
  for (size_t e = 0; e < from.experts.size(); ++e)
    place.mlp(to.gate_up, to.down, int64_t(e), from.experts[e]);
  if (from.shared) place.mlp(to.shared_gate_up, to.shared_down, 0, *from.shared);
  if (from.shared_gate) place.exact_matrix(to.shared_gate, *from.shared_gate);
}

void place_layer(const Placing& place, const LayerWeights& from, const CudaLayerWeights& to) {
  place.norm(to.input_norm, to.input_norm_bias, from.input_norm);
  place.norm(to.attention_norm.weight, to.attention_norm.bias, from.attention_norm);
  place.norm(to.post_norm, to.post_norm_bias, from.post_norm);
  place.norm(to.output_norm.weight, to.output_norm.bias, from.output_norm);
  if (to.q_norm) place.vector(to.q_norm, *from.q_norm);
  if (to.k_norm) place.vector(to.k_norm, *from.k_norm);
  if (to.sinks) place.vector(to.sinks, *from.sinks);
  int64_t row = 0;
  for (const Linear* part : {&from.q, &from.k, &from.v}) {
    place.matrix(to.qkv, row, *part);
    row += part->rows();
  }
  place.matrix(to.o, 0, from.o);
  if (from.mlp)
    place.mlp(to.gate_up, to.down, 0, *from.mlp);
  else
    place_experts(place, from, to.experts);
}

/// The plan of a run that needs all weights, one parcel after the other.
CudaPlan loading_plan(const Checkpoint& model, const CudaOptions& options) {
  static constexpr int32_t token[] = {0};
  ForwardRequest request;
  request.tokens = token;
  request.on_logits = [](int64_t, int64_t, const float*) {};
  return CudaPlan(model, request, options, cuda::free_device_bytes());
}

}  // namespace

CudaWeights::CudaWeights(const Checkpoint& model, const CudaOptions& options) : config_(model.config()) {
  if (const std::string what = without_step(config_); !what.empty())
    throw Error(Exit::device, fmt::format("{}: model_type {} is not served on the GPU: {}",
                                          model.folder().string(), config_.model_type, what));
  load(model, options);
}

CudaWeights::CudaWeights(const Config& config, cuda::FloatType type) : config_(config), type_(type) {
  lay_out();
  const cuda::Stream stream;
  uint64_t seed = 1;
  const auto random_of = [&](const CudaMatrix& m, cuda::FloatType of) {
    if (m.w) cuda::fill_normal(mine(m.w), of, m.rows * m.cols, kRandomSize, seed++, stream);
  };
  const auto random = [&](const CudaMatrix& m) { random_of(m, type_); };
  const auto ones = [&](const float* norm, int64_t n) {
    const std::vector<float> one(size_t(n), 1.0f);
    if (norm) cuda::upload(mine(norm), one.data(), one.size() * sizeof(float), stream);
    stream.synchronize();  // the copy reads `one`, which ends here
  };
  cuda::fill_zero(memory_.as(), memory_.bytes(), stream);  // biases are zero
  const bool full = config_.qk_norm == QkNorm::full;
  for (const CudaLayerWeights& layer : layers_) {
    const CudaExperts& experts = layer.experts;
    for (const CudaMatrix* m : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down, &experts.gate_up,
                                &experts.down, &experts.shared_gate_up, &experts.shared_down})
      random(*m);
    for (const CudaMatrix* m : {&experts.router, &experts.shared_gate}) random_of(*m, cuda::FloatType::f32);
    for (const float* norm :
         {layer.input_norm, layer.attention_norm.weight, layer.post_norm, layer.output_norm.weight})
      ones(norm, config_.hidden);
    ones(layer.q_norm, full ? config_.n_heads * config_.head_dim : config_.head_dim);
    ones(layer.k_norm, full ? config_.n_kv_heads * config_.head_dim : config_.head_dim);
  }
  ones(final_norm_, config_.hidden);
  random(head_);
  if (embedding_ != head_.w) random({embedding_, nullptr, config_.vocab, config_.hidden});
  stream.synchronize();
}

namespace {

/// Hands out memory for weights.
struct Places {
  Region& region;
  cuda::FloatType type;

  const float* floats(int64_t n, bool there = true) const { return there ? region.take<float>(n) : nullptr; }
  CudaMatrix matrix(int64_t rows, int64_t cols, bool bias, cuda::FloatType of) const {
    const void* const w = region.take<std::byte>(rows * cols * cuda::bytes_of(of));
    return {w, floats(rows, bias), rows, cols};
  }
  CudaMatrix matrix(int64_t rows, int64_t cols, bool bias) const { return matrix(rows, cols, bias, type); }
};

CudaExperts lay_out_experts(const Config& c, const Places& places) {
  const MoeConfig& moe = c.moe;
  const int64_t n = moe.n_experts, width = moe.intermediate, hidden = c.hidden,
                shared = moe.shared_intermediate;
  const bool bias = moe.tensors == ExpertTensors::gpt_oss;
  CudaExperts out;
  out.router = places.matrix(n, hidden, bias, cuda::FloatType::f32);
  out.choice_bias = places.floats(n, moe.choice_bias);
  out.gate_up = places.matrix(n * 2 * width, hidden, bias);
  out.down = places.matrix(n * hidden, width, bias);
  if (shared == 0) return out;
  out.shared_gate_up = places.matrix(2 * shared, hidden, c.mlp_bias);
  out.shared_down = places.matrix(hidden, shared, c.mlp_bias);
  if (moe.shared_gate) out.shared_gate = places.matrix(1, hidden, false, cuda::FloatType::f32);
  return out;
}

CudaLayerWeights lay_out_layer(const Config& c, bool experts, const Places& places) {
  const int64_t heads = c.n_heads, kv_heads = c.n_kv_heads, dim = c.head_dim;
  const bool before = c.norm_place != NormPlace::after, parallel = c.norm_place == NormPlace::parallel,
             after = c.norm_place == NormPlace::after || c.norm_place == NormPlace::both,
             qk_norm = c.qk_norm != QkNorm::none, full = c.qk_norm == QkNorm::full;
  CudaLayerWeights w;
  w.input_norm = places.floats(c.hidden, before);
  w.input_norm_bias = places.floats(c.hidden, before && c.norm_bias);
  w.qkv = places.matrix((heads + 2 * kv_heads) * dim, c.hidden, c.qkv_bias);
  w.q_norm = places.floats(full ? heads * dim : dim, qk_norm);
  w.k_norm = places.floats(full ? kv_heads * dim : dim, qk_norm);
  w.sinks = places.floats(heads, c.sinks);
  w.o = places.matrix(c.hidden, heads * dim, c.o_bias);
  w.attention_norm = {places.floats(c.hidden, after), places.floats(c.hidden, after && c.norm_bias)};
  w.post_norm = places.floats(c.hidden, before && !parallel);
  w.post_norm_bias = places.floats(c.hidden, before && !parallel && c.norm_bias);
  if (experts) {
    w.experts = lay_out_experts(c, places);
  } else {
    const int64_t halves = has_gates(c) ? 2 : 1;
    w.gate_up = places.matrix(halves * c.intermediate, c.hidden, c.mlp_bias);
    w.down = places.matrix(c.hidden, c.intermediate, c.mlp_bias);
  }
  w.output_norm = {places.floats(c.hidden, after), places.floats(c.hidden, after && c.norm_bias)};
  return w;
}

}  // namespace

CudaMatrix rows_of(const CudaMatrix& m, int64_t first, int64_t rows, cuda::FloatType type) {
  return {static_cast<const std::byte*>(m.w) + first * m.cols * cuda::bytes_of(type),
          m.bias ? m.bias + first : nullptr, rows, m.cols};
}

bool has_gates(const Config& config) {
  return config.dialect != Dialect::starcoder2;
}

/// Called twice: to count the bytes, then to hand them out.
void CudaWeights::lay_out() {
  const Config& c = config_;
  const auto hand_out = [&](Region region) {
    const Places places{region, type_};
    layers_.clear();
    for (int l = 0; l < c.n_layers; ++l)
      layers_.push_back(lay_out_layer(c, c.layer_is_moe[size_t(l)], places));
    final_norm_ = places.floats(c.hidden);
    final_norm_bias_ = places.floats(c.hidden, c.norm_bias);
    head_ = places.matrix(c.vocab, c.hidden, false);
    embedding_ = c.tied ? head_.w : places.matrix(c.vocab, c.hidden, false).w;
    return region.most();
  };
  memory_ = cuda::Buffer(size_t(hand_out(Region(nullptr))));
  hand_out(Region(memory_.as<std::byte>()));
}

void CudaWeights::load(const Checkpoint& model, const CudaOptions& options) {
  const CudaPlan plan = loading_plan(model, options);
  type_ = plan.run.type;
  lay_out();
  const cuda::Stream stream;
  const cuda::Buffer arena(size_t(plan.arena_bytes));
  Staging staging;
  WeightStream weights(model, options.device, plan.parcels, arena.as<std::byte>(), staging);
  for (size_t l = 0; l < plan.parcels.size(); ++l) {
    check_stop();
    const Placing place(plan.parcels[l], weights.acquire(l, stream), type_, stream);
    if (l < layers_.size()) {
      place_layer(place, plan.layers[l], layers_[l]);
    } else {
      place.norm(final_norm_, final_norm_bias_, plan.outer.final_norm);
      place.matrix(head_, 0, plan.outer.lm_head);
    }
    weights.release(l, stream);
  }
  if (embedding_ != head_.w) {  // the embedding is not in a parcel: a run reads only the rows that it needs
    constexpr int64_t kRows = 4096;
    const Tensor& embedding = plan.outer.embedding;  // the step applies the embedding multiplier
    std::vector<float> rows(size_t(kRows * config_.hidden));
    const cuda::Buffer there(rows.size() * sizeof(float));
    for (int64_t first = 0; first < config_.vocab; first += kRows) {
      const int64_t n = std::min<int64_t>(kRows, config_.vocab - first) * config_.hidden;
      embedding.read(first * config_.hidden, n, rows.data());
      model.release(embedding);
      cuda::upload(there.as(), rows.data(), size_t(n) * sizeof(float), stream);
      auto* const to =
          static_cast<std::byte*>(mine(embedding_)) + first * config_.hidden * cuda::bytes_of(type_);
      cuda::convert(there.as(), cuda::FloatType::f32, to, type_, n, stream);
      stream.synchronize();
    }
  }
  stream.synchronize();  // the copies read the arena, which ends here
}

}  // namespace blockgtq
