#include "serve/cuda_sequence.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/stop.h"
#include "kernels/forward/convert.h"
#include "serve/cuda_prompt.h"
#include "serve/cuda_steps.h"

namespace blockgtq {
namespace {

double gib(int64_t bytes) {
  return double(bytes) / double(1 << 30);
}

class CudaSequence final : public Sequence {
 public:
  CudaSequence(const Checkpoint& model, const AttentionShape& shape, const KvKind& kind,
               const CudaOptions& options, int64_t context, int64_t chunk)
      : model_(model),
        shape_(shape),
        options_(options),
        weights_(model, options),
        cache_(shape, kind, 1, context, stream_),
        steps_(weights_, cache_, stream_),
        logits_(size_t(model.config().vocab)) {
    if (without_prompt(model.config()).empty())
      prompt_ = std::make_unique<CudaPrompt>(weights_, cache_, steps_, stream_, chunk);
    const int64_t reading = prompt_ ? prompt_->bytes() : 0, allowed = options.memory_limit_bytes;
    const int64_t needed = steps_.bytes() + cache_.bytes() + reading;
    if (allowed > 0 && needed > allowed)
      throw Error(
          Exit::device,
          fmt::format("device memory: {:.2f} GiB needed (weights {:.2f}, cache {:.2f}, reading of the "
                      "prompt {:.2f}), {:.2f} GiB allowed",
                      gib(needed), gib(weights_.bytes()), gib(cache_.bytes()), gib(reading), gib(allowed)),
          "fewer --tokens, a smaller --prefill-chunk, a larger --gpu-memory, or --device cpu");
  }

  std::span<const float> append(std::span<const int32_t> tokens) override {
    check(!tokens.empty() && n_ + int64_t(tokens.size()) <= cache_.capacity(),
          "a sequence beyond its context");
    if (n_ == 0) {
      if (prompt_)
        prompt_->read(0, tokens, logits_);
      else
        read_whole(tokens);
      prompt_.reset();  // and its memory
      hold(tokens);
      return logits_;
    }
    for (const int32_t token : tokens) {
      check_stop();
      steps_.set_tokens({&token, 1});
      steps_.step(++n_);
    }
    steps_.logits(logits_.data());
    return logits_;
  }
  PlainPositions held(int layer) const override { return cache_.read(layer, 0, n_, stream_); }
  int64_t cache_bytes() const override { return cache_.bytes(n_); }

 private:
  /// The state of a sequence that holds these tokens, as a step leaves it.
  void hold(std::span<const int32_t> tokens) {
    n_ = int64_t(tokens.size());
    const auto held = int32_t(n_), last = held - 1;
    steps_.set({&tokens.back(), 1}, {&last, 1});
    cache_.begin_step(stream_);
    steps_.set({&tokens.back(), 1}, {&held, 1});
  }

  /// A prompt that CudaPrompt does not read: the forward pass in float32, with weights of its own.
  void read_whole(std::span<const int32_t> tokens) {
    const auto n = int64_t(tokens.size()), width = int64_t(shape_.n_kv_heads) * shape_.layout.head_dim;
    cache_.begin_chunk(0, 0, n, stream_);
    turned_ = cuda::Buffer(size_t(n * width) * sizeof(float));
    for (cuda::Buffer& side : halves_) side = cuda::Buffer(size_t(n * width) * sizeof(uint16_t));
    ForwardRequest request;
    request.tokens = tokens;
    request.chunk = 0;
    request.on_layer = [&](LayerActivations& acts) { put(acts); };
    request.logits_from = n - 1;
    request.on_logits = [&](int64_t, int64_t rows, const float* logits) {
      const int64_t vocab = model_.config().vocab;
      logits_.assign(logits + (rows - 1) * vocab, logits + rows * vocab);
    };
    make_cuda_backend(options_)->forward(model_, request);
    turned_ = cuda::Buffer();
    for (cuda::Buffer& side : halves_) side = cuda::Buffer();
  }

  /// Keys turned, keys and values to fp16 and into the pages; what the layer attends to stays as it is.
  void put(const LayerActivations& acts) {
    const cuda::Stream stream(acts.stream);
    const int64_t n = acts.n_tokens, dim = shape_.layout.head_dim, width = shape_.n_kv_heads * dim;
    cuda::copy_on_device(turned_.as(), acts.k, size_t(n * width) * sizeof(float), stream);
    if (const cuda::RopeTable table = steps_.rope(acts.layer); table.cos)
      cuda::rope(table, {turned_.as<float>(), width, dim}, n, shape_.n_kv_heads, n, stream);
    cuda::convert(turned_.as(), cuda::FloatType::f32, halves_[0].as(), cuda::FloatType::f16, n * width,
                  stream);
    cuda::convert(acts.v, cuda::FloatType::f32, halves_[1].as(), cuda::FloatType::f16, n * width, stream);
    cache_.fill(acts.layer, 0, 0, n, halves_[0].as(), halves_[1].as(), stream);
  }

  const Checkpoint& model_;
  const AttentionShape shape_;
  const CudaOptions options_;
  cuda::Stream stream_;
  CudaWeights weights_;
  CudaKvCache cache_;
  CudaSteps steps_;
  std::unique_ptr<CudaPrompt> prompt_;  // until the prompt is read; null: it is read whole
  std::vector<float> logits_;
  int64_t n_ = 0;
  cuda::Buffer turned_, halves_[2];  // (n, H, D) of a prompt read whole: float32, and fp16 keys and values
};

}  // namespace

std::string without_step(const Config& c) {
  if (c.attention == AttentionKind::mla) return "latent attention";
  if (c.moe.n_experts > 0) return "experts";
  if (!c.kv_layers().empty() && int(c.kv_layers().size()) < c.n_layers) return "gated delta nets";
  if (c.norm_place != NormPlace::before || c.norm_form != NormForm::rms)
    return "norms of this kind or in this place";
  if (c.qk_norm == QkNorm::full) return "QK-norm over all heads";
  if (c.attention_softcap > 0 || c.sinks || c.gated_output) return "softcaps, learned sinks or gated output";
  if (c.sliding_window() > 0 && c.sliding_window() < c.max_position) return "sliding windows";
  if (c.activation == Activation::clamped || c.dialect == Dialect::starcoder2)
    return "this feed-forward part";
  if (c.v_dim != c.head_dim) return "values of another length than keys";
  if (c.rope.type == RopeType::dynamic || c.rope.type == RopeType::longrope)
    return "frequencies that depend on the length";
  if (c.hidden % 8 != 0 || c.intermediate % 8 != 0) return "a width that is no multiple of 8";
  switch (c.head_dim) {
    case 64:
    case 80:
    case 96:
    case 128:
    case 256:
      return "";
    default:
      return fmt::format("a head dimension of {}", c.head_dim);
  }
}

std::string without_prompt(const Config& c) {
  if (const std::string what = without_step(c); !what.empty()) return what;
  if (c.moe.n_experts > 0) return "experts";
  if (c.norm_place != NormPlace::before || c.norm_form != NormForm::rms)
    return "norms of this kind or in this place";
  if (c.qk_norm == QkNorm::full) return "QK-norm over all heads";
  if (c.attention_softcap > 0 || c.sinks || c.gated_output) return "softcaps, learned sinks or gated output";
  if (c.sliding_window() > 0 && c.sliding_window() < c.max_position) return "sliding windows";
  if (c.activation == Activation::clamped || c.dialect == Dialect::starcoder2)
    return "this feed-forward part";
  return "";
}

std::unique_ptr<Sequence> make_cuda_sequence(const Checkpoint& model, const AttentionShape& shape,
                                             const KvKind& kind, const CudaOptions& options, int64_t context,
                                             int64_t chunk) {
  cuda::set_device(options.device);
  return std::make_unique<CudaSequence>(model, shape, kind, options, context, chunk);
}

}  // namespace blockgtq
