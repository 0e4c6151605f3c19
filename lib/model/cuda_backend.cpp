#include "model/cuda_backend.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/stop.h"
#include "model/cuda_decoder.h"
#include "model/cuda_weight_stream.h"
#include "model/output_layer.h"
#include "model/request.h"

namespace blockgtq {

namespace {

/// Makes the options' device current for this thread, and returns the options.
const CudaOptions& use_device(const CudaOptions& options) {
  const int index = options.device;
  try {
    cuda::set_device(index);
    return options;
  } catch (const Error&) {
    const cuda::DeviceReport report = cuda::probe_devices();
    if (report.devices.empty())
      throw Error(Exit::device, fmt::format("no CUDA device: {}", report.why_none), "--device cpu");
    if (index < 0 || index >= int(report.devices.size()))
      throw Error(Exit::device,
                  fmt::format("cuda:{}: no such device: 0 to {}", index, report.devices.size() - 1));
    throw;
  }
}

/// A run's weights: streamed through the arena, or resident since an earlier run.
class RunWeights {
 public:
  /// staging: null where they are resident. Parcels before `first` are skipped.
  RunWeights(const Checkpoint& model, int device, const CudaPlan& plan, std::byte* arena, Staging* staging,
             size_t first)
      : plan_(plan), arena_(arena) {
    if (staging) stream_.emplace(model, device, plan.parcels, arena, *staging, first);
  }
  /// As WeightStream::acquire().
  const std::byte* acquire(size_t i, const cuda::Stream& stream) {
    return stream_ ? stream_->acquire(i, stream) : arena_ + plan_.parcels[i].arena_offset;
  }
  void release(size_t i, const cuda::Stream& stream) {
    if (stream_) stream_->release(i, stream);
  }

 private:
  const CudaPlan& plan_;
  std::byte* const arena_;
  std::optional<WeightStream> stream_;
};

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(const CudaOptions& options) : options_(use_device(options)) {}
  void forward(const Checkpoint& model, const ForwardRequest& request) override;
  int64_t device_room() const override {
    return options_.memory_limit_bytes > 0 ? 0 : cuda::free_device_bytes() / 2;
  }

 private:
  void run_layers(const CudaPlan& plan, const ForwardRequest& request, CudaDecoder& decoder,
                  RunWeights& weights);
  void run_output(const CudaPlan& plan, const ForwardRequest& request, int64_t vocab, CudaDecoder& decoder,
                  RunWeights& weights);
  void let_go();

  const CudaOptions options_;  // first: the members below are made on its device
  cuda::Stream stream_;
  cuda::Blas blas_;
  Staging staging_;
  cuda::Buffer kept_;                    // weights that stay from run to run
  const Checkpoint* kept_of_ = nullptr;  // the model that kept_ holds; null: none, whatever is in memory
};

void CudaBackend::let_go() {
  kept_of_ = nullptr;
  kept_ = cuda::Buffer();
}

void CudaBackend::forward(const Checkpoint& model, const ForwardRequest& request) {
  check_request(model, request);
  if (request.past) request.past->layers.resize(model.config().kv_layers().size());
  cuda::set_device(options_.device);
  if (kept_of_ != &model || !request.past) let_go();
  const int64_t free = cuda::free_device_bytes() + int64_t(kept_.bytes()) +
                       cuda::Blas::kWorkspaceBytes;  // the workspace is part of the plan
  const CudaPlan plan(model, request, options_, free);
  if (!plan.resident) let_go();
  const bool there = kept_of_ == &model;
  const int first = request.start ? request.start->layer : 0;
  if (plan.resident && !there) kept_ = cuda::Buffer(size_t(plan.arena_bytes));
  const cuda::Buffer activations{size_t(plan.activation_bytes)},
      passing{plan.resident ? 0 : size_t(plan.arena_bytes)};
  Region region(activations.as<std::byte>());
  const Workspace workspace = lay_out(model.config(), plan.run, region);
  CudaDecoder decoder(model, plan.run, request.past, workspace, blas_, stream_);
  RunWeights weights(model, options_.device, plan, (plan.resident ? kept_ : passing).as<std::byte>(),
                     there ? nullptr : &staging_, size_t(first));

  if (request.progress) request.progress->begin("forward", model.config().n_layers - first);
  decoder.begin(plan.outer.embedding, request.tokens);
  if (request.start) decoder.set_residual(request.start->x);
  run_layers(plan, request, decoder, weights);
  if (request.on_logits) run_output(plan, request, model.config().vocab, decoder, weights);
  stream_.synchronize();  // work in flight uses memory that is freed now
  if (plan.resident) kept_of_ = &model;
  if (request.past) request.past->n += plan.run.n_tokens;
  if (request.progress) request.progress->end();
}

void CudaBackend::run_layers(const CudaPlan& plan, const ForwardRequest& request, CudaDecoder& decoder,
                             RunWeights& weights) {
  const size_t first = request.start ? size_t(request.start->layer) : 0;
  std::vector<float> residual;
  for (size_t l = first; l < plan.layers.size(); ++l) {
    if (request.on_boundary && l > first)
      request.on_boundary(int(l), [&] {
        residual = decoder.residual();
        return std::span<const float>(residual);
      });
    residual = {};
    check_stop();
    const ResidentLayer layer{int(l), plan.layers[l], plan.parcels[l], weights.acquire(l, stream_)};
    const bool stop = l + 1 == plan.layers.size() && !request.on_logits;
    decoder.attention(layer, request.on_layer, stop);
    if (!stop) decoder.feed_forward(layer);
    weights.release(l, stream_);
    if (request.progress) request.progress->step(fmt::format("layer {}", l));
  }
}

void CudaBackend::run_output(const CudaPlan& plan, const ForwardRequest& request, int64_t vocab,
                             CudaDecoder& decoder, RunWeights& weights) {
  const size_t output = plan.layers.size();
  const std::byte* base = weights.acquire(output, stream_);
  const int64_t most = std::min(kLogitTokens, plan.run.chunk), n_tokens = plan.run.n_tokens;
  const bool there = bool(request.on_device_logits);
  const cuda::PinnedBuffer logits(there ? 0 : size_t(most * vocab) * sizeof(float));
  for (int64_t start = 0; start < n_tokens; start += plan.run.chunk) {
    const int64_t end = std::min(n_tokens, start + plan.run.chunk);
    for (int64_t first = std::max(start, request.logits_from); first < end; first += most) {
      check_stop();
      const int64_t n = std::min(most, end - first);
      const float* found = decoder.logits(plan.outer, plan.parcels[output], base, first, n);
      if (there) {
        request.on_device_logits(first, n, found, stream_.handle());
        continue;
      }
      cuda::download(logits.as(), found, size_t(n * vocab) * sizeof(float), stream_);
      stream_.synchronize();
      request.on_logits(first, n, logits.as<float>());
    }
  }
  weights.release(output, stream_);
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options) {
  return std::make_unique<CudaBackend>(options);
}

}  // namespace blockgtq
