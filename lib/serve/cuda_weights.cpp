#include "serve/cuda_weights.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/stop.h"
#include "kernels/forward/convert.h"
#include "kernels/forward/dequantize.h"
#include "kernels/forward/random_fill.h"
#include "model/cuda_plan.h"
#include "model/cuda_weight_stream.h"
#include "model/output_layer.h"
#include "serve/cuda_sequence.h"

namespace blockgtq {
namespace {

constexpr float kRandomSize = 0.02f;  // standard deviation, as models are initialised

template <class T>
T* mine(const T* p) {  // what this class laid out, it may write
  return const_cast<T*>(p);
}

/// Copies a tensor from where a parcel brought it to where it stays.
class Placing {
 public:
  Placing(const Parcel& parcel, const std::byte* base, cuda::FloatType type, const cuda::Stream& stream)
      : parcel_(parcel), base_(base), type_(type), stream_(stream) {}

  /// Rows [first, first + rows of w) of the matrix.
  void matrix(const CudaMatrix& to, int64_t first, const Linear& w) const {
    check(!w.transposed && w.cols() == to.cols && first + w.rows() <= to.rows, "a resident matrix");
    auto* const at = static_cast<std::byte*>(mine(to.w)) + first * to.cols * cuda::bytes_of(type_);
    convert(w.weight, at, type_);
    if (!to.bias) return check(!w.bias, "a bias without a place");
    if (w.bias)
      vector(to.bias + first, *w.bias);
    else
      cuda::fill_zero(mine(to.bias) + first, size_t(w.rows()) * sizeof(float), stream_);
  }
  void vector(const float* to, const Tensor& from) const { convert(from, mine(to), cuda::FloatType::f32); }

 private:
  void convert(const Tensor& from, void* to, cuda::FloatType type) const {
    const std::byte* const at = base_ + parcel_.offset_of(from);
    const int64_t n = from.elements();
    if (!lies_as_float(from) && is_quantized(from.dtype))
      cuda::dequantize(block_type(from.dtype), at, n / block_size(from.dtype).elements, to, type, stream_);
    else
      cuda::convert(at, lies_as_float(from) ? cuda::FloatType::f32 : float_type(from.dtype), to, type, n,
                    stream_);
  }

  const Parcel& parcel_;
  const std::byte* base_;
  cuda::FloatType type_;
  const cuda::Stream& stream_;
};

void place_layer(const Placing& place, const LayerWeights& from, const CudaLayerWeights& to) {
  place.vector(to.input_norm, from.input_norm->weight);
  place.vector(to.post_norm, from.post_norm->weight);
  if (to.q_norm) place.vector(to.q_norm, *from.q_norm);
  if (to.k_norm) place.vector(to.k_norm, *from.k_norm);
  int64_t row = 0;
  for (const Linear* part : {&from.q, &from.k, &from.v}) {
    place.matrix(to.qkv, row, *part);
    row += part->rows();
  }
  place.matrix(to.o, 0, from.o);
  place.matrix(to.gate_up, 0, from.mlp->gate);
  place.matrix(to.gate_up, from.mlp->width(), from.mlp->up);
  place.matrix(to.down, 0, from.mlp->down);
}

/// The plan of a run that needs all weights, one after the other.
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
  const auto random = [&](const CudaMatrix& m) {
    cuda::fill_normal(mine(m.w), type_, m.rows * m.cols, kRandomSize, seed++, stream);
    if (m.bias) cuda::fill_zero(mine(m.bias), size_t(m.rows) * sizeof(float), stream);
  };
  const auto ones = [&](const float* norm, int64_t n) {
    const std::vector<float> one(size_t(n), 1.0f);
    if (norm) cuda::upload(mine(norm), one.data(), one.size() * sizeof(float), stream);
    stream.synchronize();  // before `one` goes
  };
  for (const CudaLayerWeights& layer : layers_) {
    for (const CudaMatrix* m : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) random(*m);
    for (const float* norm : {layer.input_norm, layer.post_norm}) ones(norm, config_.hidden);
    for (const float* norm : {layer.q_norm, layer.k_norm}) ones(norm, config_.head_dim);
  }
  ones(final_norm_, config_.hidden);
  random(head_);
  if (embedding_ != head_.w) random({embedding_, nullptr, config_.vocab, config_.hidden});
  stream.synchronize();
}

/// Once to count the bytes, once to hand them out.
void CudaWeights::lay_out() {
  const Config& c = config_;
  const int64_t heads = c.n_heads, kv_heads = c.n_kv_heads, dim = c.head_dim;
  const auto hand_out = [&](Region region) {
    const auto floats = [&](int64_t n, bool there) { return there ? region.take<float>(n) : nullptr; };
    const auto matrix = [&](int64_t rows, int64_t cols, bool bias) {
      const void* const w = region.take<std::byte>(rows * cols * cuda::bytes_of(type_));
      return CudaMatrix{w, floats(rows, bias), rows, cols};
    };
    layers_.clear();
    for (int l = 0; l < c.n_layers; ++l) {
      CudaLayerWeights w;
      w.input_norm = floats(c.hidden, true);
      w.qkv = matrix((heads + 2 * kv_heads) * dim, c.hidden, c.qkv_bias);
      w.q_norm = floats(dim, c.qk_norm == QkNorm::head);
      w.k_norm = floats(dim, c.qk_norm == QkNorm::head);
      w.o = matrix(c.hidden, heads * dim, c.o_bias);
      w.post_norm = floats(c.hidden, true);
      w.gate_up = matrix(2 * int64_t(c.intermediate), c.hidden, c.mlp_bias);
      w.down = matrix(c.hidden, c.intermediate, c.mlp_bias);
      layers_.push_back(w);
    }
    final_norm_ = floats(c.hidden, true);
    head_ = matrix(c.vocab, c.hidden, false);
    embedding_ = c.tied ? head_.w : matrix(c.vocab, c.hidden, false).w;
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
      place.vector(final_norm_, plan.outer.final_norm.weight);
      place.matrix(head_, 0, plan.outer.lm_head);
    }
    weights.release(l, stream);
  }
  if (embedding_ != head_.w) {  // not among the parcels: a run reads the rows it needs
    constexpr int64_t kRows = 4096;
    std::vector<int32_t> tokens;
    std::vector<float> rows(size_t(kRows * config_.hidden));
    const cuda::Buffer there(rows.size() * sizeof(float));
    for (int64_t first = 0; first < config_.vocab; first += int64_t(tokens.size())) {
      tokens.clear();
      for (int64_t t = first; t < std::min<int64_t>(config_.vocab, first + kRows); ++t)
        tokens.push_back(int32_t(t));
      embed(model, plan.outer.embedding, tokens, rows.data());
      const int64_t n = int64_t(tokens.size()) * config_.hidden;
      cuda::upload(there.as(), rows.data(), size_t(n) * sizeof(float), stream);
      auto* const to =
          static_cast<std::byte*>(mine(embedding_)) + first * config_.hidden * cuda::bytes_of(type_);
      cuda::convert(there.as(), cuda::FloatType::f32, to, type_, n, stream);
      stream.synchronize();
    }
  }
  stream.synchronize();  // before the arena goes
}

}  // namespace blockgtq
