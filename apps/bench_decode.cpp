#include "bench_decode.h"

#include <algorithm>
#include <random>

#include "base/error.h"
#include "base/stop.h"
#include "kernels/device/device.h"
#include "model/model_shape.h"
#include "serve/cuda_prompt.h"
#include "serve/cuda_steps.h"
#include "serve/sequence.h"
#include "serving_size.h"

namespace blockgtq {

struct DecodeBench::State {
  int64_t free_before;
  CudaWeights weights;
  double copy = copy_rate(20);  // bytes per second
};

namespace {

constexpr int kWarm = 8;

KvKind kind_of(const CacheBench& bench, int n_layers) {
  KvKind kind;
  kind.exact = bench.window;
  if (bench.keys == "fp16") return kind;
  for (int l = 0; l < n_layers; ++l) kind.packed.push_back(bench_spec(bench, uint64_t(l)));
  return kind;
}

/// Bytes of weights that a step reads: all but the embedding where that is not the output layer, and the
/// experts that a token does not go to (all sequences here are alike).
double step_bytes(const CudaWeights& weights) {
  const Config& c = weights.config();
  const auto each = double(cuda::bytes_of(weights.type()));
  double sum = double(weights.bytes()) - (c.tied ? 0 : double(c.vocab) * c.hidden * each);
  for (const CudaLayerWeights& layer : weights.layers())
    for (const CudaMatrix* m : {&layer.experts.gate_up, &layer.experts.down})
      if (m->w)
        sum -= double(m->rows) * double(m->cols) * each * (1 - double(c.moe.n_per_token) / c.moe.n_experts);
  return sum;
}

std::vector<int32_t> random_tokens(int64_t n, int vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  for (int32_t& token : tokens) token = int32_t(random() % uint32_t(vocab));
  return tokens;
}

/// The seconds that prompts of n random tokens take, one for every sequence; some are read before.
double read_prompts(CudaPrompt& prompt, const Config& config, int batch, int64_t n,
                    const cuda::Stream& stream) {
  std::vector<float> logits(size_t(config.vocab));
  prompt.read(0, random_tokens(std::min(n, kPromptChunk), config.vocab, 0), logits);
  cuda::Event begin, end;
  begin.record(stream);
  for (int b = 0; b < batch; ++b) prompt.read(b, random_tokens(n, config.vocab, uint32_t(b)), logits);
  end.record(stream);
  end.synchronize();
  return 1e-3 * double(end.milliseconds_since(begin));
}

}  // namespace

DecodeBench::DecodeBench(const Checkpoint& model, const CudaOptions& options)
    : state_(std::make_unique<State>(State{cuda::free_device_bytes(), CudaWeights(model, options)})) {}

DecodeBench::DecodeBench(const Config& config)
    : state_(std::make_unique<State>(
          State{cuda::free_device_bytes(), CudaWeights(config, cuda::FloatType::bf16)})) {}

DecodeBench::~DecodeBench() = default;

const Config& DecodeBench::config() const {
  return state_->weights.config();
}

DecodeTime DecodeBench::time(const CacheBench& bench, int steps, int64_t memory, bool prefill) const {
  const Config& c = config();
  CacheBench of_model = bench;
  of_model.layers = c.n_layers;
  of_model.heads = c.n_heads;
  of_model.kv_heads = c.n_kv_heads;
  of_model.head_dim = c.head_dim;
  const cuda::Stream stream;
  const AttentionShape shape = attention_shape(c, 1);
  CudaKvCache cache(shape, kind_of(of_model, c.n_layers), bench.batch, bench.context, stream);
  for (int b = 0; b < bench.batch; ++b) cache.grow(b, bench.context, stream);
  CudaSteps step(state_->weights, cache, stream);
  const int n = kWarm + steps;
  const int64_t first = bench.context - n;
  check(first > 0, "bench decode: a context longer than its steps");
  DecodeTime out;
  int64_t least_free = INT64_MAX;
  if (prefill) {
    CudaPrompt prompt(state_->weights, cache, step, stream, kPromptChunk);
    out.prefill_seconds = read_prompts(prompt, c, bench.batch, first, stream);
    out.prefill_tokens = first * bench.batch;
    least_free = cuda::free_device_bytes();
  }
  const std::vector<int32_t> tokens(size_t(bench.batch), 1), positions(size_t(bench.batch), int32_t(first));
  step.set(tokens, positions);
  std::vector<cuda::Event> events(size_t(n) + 1);
  for (int i = 0; i < n; ++i) {
    check_stop();
    events[size_t(i)].record(stream);
    step.step(bench.context);
  }
  events[size_t(n)].record(stream);
  step.wait();

  for (int i = kWarm; i < n; ++i)
    out.milliseconds.push_back(events[size_t(i) + 1].milliseconds_since(events[size_t(i)]));
  std::sort(out.milliseconds.begin(), out.milliseconds.end());
  out.weight_bytes = state_->weights.bytes();
  out.cache_bytes = cache.bytes();
  out.peak_bytes = state_->free_before - std::min(least_free, cuda::free_device_bytes());
  const auto held = [&](int64_t n) { return cache.bytes(n); };
  const double read = step_bytes(state_->weights) + bench.batch * bytes_read(shape, bench.context, held);
  out.floor_milliseconds = 1e3 * read / state_->copy;
  const double each = bytes_per_position(shape, bench.batch, bench.context, held);
  const double fixed = double(out.peak_bytes) - each * double(bench.context);
  out.longest_context = longest_context(double(memory), fixed, each);
  return out;
}

}  // namespace blockgtq
