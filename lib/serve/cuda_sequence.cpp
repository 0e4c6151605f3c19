#include "serve/cuda_sequence.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "serve/cuda_batch.h"
#include "serve/past_sequence.h"
#include "serve/sequence_batch.h"

namespace blockgtq {
namespace {

/// A CudaBatch of one text.
class CudaSequence final : public Sequence {
 public:
  CudaSequence(const Checkpoint& model, const AttentionShape& shape, const KvKind& kind,
               const CudaOptions& options, int64_t context, int64_t chunk)
      : context_(context), batch_(model, shape, kind, options, 1, context, chunk) {
    batch_.require(context);
  }

  std::span<const float> append(std::span<const int32_t> tokens) override {
    check(!tokens.empty(), "a sequence without tokens");
    if (!begun_)
      batch_.add(tokens, context_);
    else
      for (size_t t = 0; t < tokens.size(); ++t) batch_.step(tokens.subspan(t, 1));
    begun_ = true;
    return batch_.logits(0);
  }
  PlainPositions held(int layer) const override { return batch_.held(0, layer); }
  int64_t cache_bytes() const override { return batch_.cache_bytes(0); }

 private:
  const int64_t context_;
  CudaBatch batch_;
  bool begun_ = false;
};

/// For a model without a decoding step: forward passes on the GPU over exact keys and values.
class CudaPastSequence final : public PastSequence {
 public:
  CudaPastSequence(const Checkpoint& model, std::shared_ptr<Backend> backend, int64_t context, int64_t chunk)
      : PastSequence(model, std::move(backend), context), chunk_(size_t(chunk)) {}

  std::span<const float> append(std::span<const int32_t> tokens) override {
    for (size_t t = 0; t < tokens.size(); t += chunk_)
      pass(tokens.subspan(t, std::min(chunk_, tokens.size() - t)), nullptr);
    return logits_;
  }
  int64_t cache_bytes() const override { return exact_bytes(&Past::Layer::k) + exact_bytes(&Past::Layer::v); }

 private:
  const size_t chunk_;
};

/// Makes sequences for a model without a decoding step.
MakeSequence over_past(const Checkpoint& model, const KvKind& kind, const CudaOptions& options,
                       int64_t chunk) {
  const Config& c = model.config();
  for (const std::string& what : {without_sequence(c), kind.is_packed() ? without_step(c) : ""})
    if (!what.empty())
      throw Error(Exit::device, fmt::format("{}: no kernel for {}", model.folder().string(), what),
                  "--device cpu");
  return [&model, backend = std::shared_ptr(make_cuda_backend(options)), chunk](int64_t context) {
    return std::make_unique<CudaPastSequence>(model, backend, context, chunk);
  };
}

std::string without_feed_forward(const Config& c) {
  const MoeConfig& moe = c.moe;
  const bool experts = moe.n_experts > 0,
             dense = std::count(c.layer_is_moe.begin(), c.layer_is_moe.end(), false) > 0;
  const int shared = experts ? moe.shared_intermediate : 0;
  if (experts && c.norm_place != NormPlace::before) return "experts with norms in another place than before";
  if (c.activation == Activation::clamped && (dense || shared > 0))
    return "clamped activations of what is not an expert";
  if (experts && moe.n_per_token > cuda::kMaxVisits)
    return fmt::format("{} experts of a token", moe.n_per_token);
  if (c.hidden % 8 != 0 || (dense && c.intermediate % 8 != 0) ||
      (experts && (moe.intermediate % 8 != 0 || shared % 8 != 0)))
    return "a width that is no multiple of 8";
  return "";
}

}  // namespace

std::string without_step(const Config& c) {
  if (const std::string what = without_sequence(c); !what.empty()) return what;
  if (c.attention == AttentionKind::mla) return "latent attention";
  if (c.gated_output) return "gated output of attention";
  if (c.v_dim != c.head_dim) return "values of another length than keys";
  if (c.rope.type == RopeType::dynamic || c.rope.type == RopeType::longrope)
    return "frequencies that depend on the length";
  if (const std::string part = without_feed_forward(c); !part.empty()) return part;
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

std::string without_sequence(const Config& c) {
  return int(c.kv_layers().size()) < c.n_layers ? "gated delta nets" : "";
}

std::unique_ptr<Sequence> make_cuda_sequence(const Checkpoint& model, const AttentionShape& shape,
                                             const KvKind& kind, const CudaOptions& options, int64_t context,
                                             int64_t chunk) {
  if (!without_step(model.config()).empty()) return over_past(model, kind, options, chunk)(context);
  cuda::set_device(options.device);
  return std::make_unique<CudaSequence>(model, shape, kind, options, context, chunk);
}

std::unique_ptr<Batch> make_cuda_batch(const Checkpoint& model, const AttentionShape& shape,
                                       const KvKind& kind, const CudaOptions& options, int slots,
                                       int64_t context, int64_t chunk) {
  if (!without_step(model.config()).empty())
    return make_sequence_batch(slots, over_past(model, kind, options, chunk));
  cuda::set_device(options.device);
  return std::make_unique<CudaBatch>(model, shape, kind, options, slots, context, chunk);
}

}  // namespace blockgtq
