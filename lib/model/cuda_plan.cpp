#include "model/cuda_plan.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/error.h"
#include "kernels/forward/attention.h"
#include "kernels/forward/blas.h"
#include "kernels/forward/delta_net.h"
#include "model/request.h"

namespace blockgtq {

namespace {

constexpr int64_t kConvertedBytes = 256 << 20;  // weights that are converted at a time, where they must be
constexpr int64_t kReserveBytes = 256 << 20;    // for what the driver loads when a kernel is first used

int64_t aligned(int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

cuda::FloatType product_type(ComputeType asked, DType stored) {
  switch (asked) {
    case ComputeType::fp32:
      return cuda::FloatType::f32;
    case ComputeType::bf16:
      return cuda::FloatType::bf16;
    case ComputeType::fp16:
      return cuda::FloatType::f16;
    case ComputeType::automatic:
      break;
  }
  return float_type(stored);
}

/// The output projection of attention, or of the layer's delta net.
const Linear& output_of(const LayerWeights& layer) {
  return layer.delta ? layer.delta->out : layer.o;
}

void check_kernels(const Checkpoint& model) {
  const std::string what = without_kernel(model.config());
  if (what.empty()) return;
  throw Error(Exit::device,
              fmt::format("{}: model_type {} is not supported on the GPU: {}", model.folder().string(),
                          model.config().model_type, what),
              "--device cpu");
}

/// Counts the bytes for converting matrices that are stored in another type. Gate and up are one matrix.
class Conversions {
 public:
  explicit Conversions(cuda::FloatType type) : type_(type) {}

  void add(const Linear& linear) {
    add(linear.weight, type_, 1);
    if (linear.transposed && !is_stored_as(linear.weight, type_))
      whole_ = std::max(whole_, linear.weight.elements() * cuda::bytes_of(type_));
  }
  void add(const Mlp& mlp) {
    add(mlp.gate.weight, type_, 2);
    add(mlp.up.weight, type_, 1);
    if (mlp.both) add(*mlp.both);
    add(mlp.down);
  }
  void add(const LayerWeights& w) {
    for (const Linear* linear : {&w.q, &w.k, &w.v, &w.o, &w.q_a, &w.q_b, &w.kv_a, &w.kv_b}) add(*linear);
    if (w.delta) {
      for (const Linear& linear : w.delta->in) add(linear);
      add(w.delta->out);
    }
    if (w.mlp) add(*w.mlp);
    if (w.router) add(w.router->weight, cuda::FloatType::f32, 1);
    for (const Mlp& expert : w.experts) add(expert);
    if (w.shared) add(*w.shared);
    if (w.shared_gate) add(w.shared_gate->weight, cuda::FloatType::f32, 1);
  }
  int64_t bytes() const { return std::max(whole_, std::min(bytes_, kConvertedBytes)); }

 private:
  void add(const Tensor& weight, cuda::FloatType to, int64_t copies) {
    if (weight.shape.empty() || is_stored_as(weight, to)) return;
    bytes_ = std::max(bytes_, copies * weight.elements() * cuda::bytes_of(to));
  }

  cuda::FloatType type_;
  int64_t bytes_ = 0, whole_ = 0;  // whole_: of matrices that are converted as a whole
};

}  // namespace

std::string without_kernel(const Config& c) {
  const bool latent = c.attention == AttentionKind::mla;
  const int64_t dim = latent ? c.mla.nope_dim + c.mla.rope_dim : c.head_dim,
                v_dim = latent ? c.mla.v_dim : c.v_dim;
  if (!cuda::attention_supported(dim, v_dim))
    return fmt::format("head dimension {}, at most {}", std::max(dim, v_dim), cuda::kMaxAttentionDim);
  if (c.delta.key_dim > cuda::kMaxDeltaKeyDim)
    return fmt::format("gated delta nets with keys of {}, at most {}", c.delta.key_dim,
                       cuda::kMaxDeltaKeyDim);
  return "";
}

/// Gives every parcel a place of its own, if there is room for all of them.
bool CudaPlan::keep_all(int64_t room) {
  int64_t all = 0;
  for (const Parcel& parcel : parcels) all += aligned(parcel.bytes);
  if (all > room) return false;
  for (Parcel& parcel : parcels) {
    parcel.arena_offset = arena_bytes;
    parcel.after = -1;
    arena_bytes += aligned(parcel.bytes);
  }
  return resident = true;
}

CudaPlan::CudaPlan(const Checkpoint& model, const ForwardRequest& request, const CudaOptions& options,
                   int64_t free_bytes)
    : outer(outer_weights(model)) {
  const Config& c = model.config();
  check_kernels(model);
  for (int layer = 0; layer < c.n_layers; ++layer) layers.push_back(layer_weights(model, layer));
  for (int layer = 0; layer < c.n_layers; ++layer)
    parcels.push_back(pack_layer(layers[size_t(layer)], layer + 1 == c.n_layers && !request.on_logits));
  int64_t layer_bytes = 0, output_bytes = 0;
  for (Parcel& parcel : parcels) layer_bytes = std::max(layer_bytes, parcel.bytes);
  layer_bytes = aligned(layer_bytes);
  if (request.on_logits) output_bytes = parcels.emplace_back(pack_output(outer)).bytes;

  run.n_tokens = int64_t(request.tokens.size());
  run.chunk = chunk_tokens(request);
  run.continues = request.past != nullptr;
  if (run.continues) run.past = request.past->n;
  run.logits = bool(request.on_logits);
  run.type = product_type(options.type, output_of(layers[0]).weight.dtype);
  Conversions conversions(run.type);
  for (const LayerWeights& layer : layers) conversions.add(layer);
  if (request.on_logits) conversions.add(outer.lm_head);
  run.converted_bytes = conversions.bytes();
  Region region(nullptr);
  lay_out(c, run, region);
  activation_bytes = region.most();

  const int64_t fixed = activation_bytes + cuda::Blas::kWorkspaceBytes;
  const int64_t usable = free_bytes - kReserveBytes;
  const bool limited = options.memory_limit_bytes > 0 && options.memory_limit_bytes < usable;
  const int64_t room = limited ? options.memory_limit_bytes : usable;
  if (run.continues && run.logits && keep_all(room - fixed)) return;
  int slots = c.n_layers > 1 ? 2 : 1;
  if (fixed + std::max(slots * layer_bytes, output_bytes) > room) slots = 1;
  arena_bytes = std::max(slots * layer_bytes, output_bytes);
  if (fixed + arena_bytes > room)
    throw Error(
        Exit::device,
        fmt::format("device memory: {:.2f} GiB needed (activations {:.2f}, largest layer's weights {:.2f}, "
                    "output layer's weights {:.2f}), {:.2f} GiB {}",
                    gib(fixed + arena_bytes), gib(fixed), gib(layer_bytes), gib(output_bytes), gib(room),
                    limited ? "allowed" : "free"),
        "fewer --tokens, a larger --gpu-memory, or --device cpu");

  for (int layer = 0; layer < c.n_layers; ++layer) {
    parcels[size_t(layer)].arena_offset = layer % slots * layer_bytes;
    parcels[size_t(layer)].after = layer - slots < 0 ? -1 : layer - slots;
  }
  if (request.on_logits) parcels.back().after = c.n_layers - 1;
}

}  // namespace blockgtq
