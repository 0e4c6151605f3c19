#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/progress.h"
#include "hf/checkpoint.h"
#include "model/past.h"

namespace blockgtq {

/// What the queries of a layer see of the positions just behind them, where that is not what is in
/// LayerActivations::k and v: one that stands at t sees the last n[chunk] up to t as they are here, all
/// before them as they are there. Empty k or v: the same here and there.
struct RecentPositions {
  std::vector<int64_t> n;   // (n_chunks), or empty: none
  std::vector<float> k, v;  // (T, Hkv, D), (T, Hkv, Dv)
};

/// One layer's activations over all tokens, before RoPE and after whatever the model applies before it (input
/// norm, projection, bias, QK-norm). float32, row-major. For MLA q and k are the rotary parts (Hkv = 1) and v
/// is null.
struct LayerActivations {
  int layer = 0;
  int64_t n_tokens = 0;    // T
  float* q = nullptr;      // (T, Hq, D)
  float* k = nullptr;      // (T, Hkv, D)
  float* v = nullptr;      // (T, Hkv, Dv)
  void* stream = nullptr;  // not null: q, k and v are device memory, in order on this CUDA stream
  RecentPositions recent;  // set by who is shown this; only where stream is null
};

/// A place between two layers: the next one's number, and the residual stream (T, hidden) that it gets.
struct LayerBoundary {
  int layer = 0;
  std::vector<float> x;
};

struct ForwardRequest {
  std::span<const int32_t> tokens;  // (T)
  int64_t chunk = 256;              // every chunk starts at position 0; 0: one window
  /// When set, the tokens continue this sequence, in one window (chunk is 0). Not of models with gated delta
  /// nets.
  Past* past = nullptr;
  /// Sees every layer in order, and may rewrite q, k and v, and set recent positions: the layer attends to
  /// what it finds there.
  std::function<void(LayerActivations&)> on_layer;
  /// When set: the logits (n, vocab) of tokens [first, first + n), in order and after the last layer, in
  /// pieces of at most some hundred tokens that never cross a chunk's end; of those from logits_from on. When
  /// not set the last layer stops at its projections.
  std::function<void(int64_t first, int64_t n, const float* logits)> on_logits;
  int64_t logits_from = 0;
  /// When set beside on_logits, a backend that computes on a device calls it instead: logits are device
  /// memory, in order on `stream` (a CUDA stream) and only until this returns.
  std::function<void(int64_t first, int64_t n, const float* logits, void* stream)> on_device_logits;
  /// When set, the run begins here: all behind is as it is in a run from the tokens. Not with past.
  const LayerBoundary* start = nullptr;
  /// When set, called at every boundary but the one at the start. residual() is what LayerBoundary::x is
  /// there: asked for only where it is wanted, valid until this returns.
  std::function<void(int layer, const std::function<std::span<const float>()>& residual)> on_boundary;
  Progress* progress = nullptr;  // one step per layer that is computed
};

/// Runs the decoder layer by layer, one layer's weights in use at a time. The CPU computes in float32
/// whatever the weights' type; results do not depend on the number of threads.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual void forward(const Checkpoint& model, const ForwardRequest& request) = 0;
  /// Bytes of device memory that who uses this may take beside what a run takes; 0 on the CPU, and where the
  /// user has limited the memory.
  virtual int64_t device_room() const { return 0; }
};

std::unique_ptr<Backend> make_cpu_backend();

/// Bytes of activations a run of T tokens keeps at its peak, and of the largest layer's weights.
struct MemoryPlan {
  int64_t activation_bytes = 0, layer_bytes = 0;
};
MemoryPlan plan_memory(const Checkpoint& model, int64_t n_tokens, int64_t chunk, bool logits);

}  // namespace blockgtq
