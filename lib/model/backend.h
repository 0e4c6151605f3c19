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

/// Keys and values that queries see at their most recent positions, where these differ from
/// LayerActivations::k and v: exact positions of a simulated cache. A query at t sees the last n[chunk]
/// positions up to t from here, all earlier ones from there. Empty k or v: that side does not differ.
struct RecentPositions {
  std::vector<int64_t> n;   // (n_chunks) positions, or empty: none
  std::vector<float> k, v;  // (T, Hkv, D), (T, Hkv, Dv)
};

/// One layer's activations over all tokens, before RoPE and after whatever the model applies before RoPE
/// (input norm, projection, bias, QK-norm). float32, row-major. For MLA q and k are the rotary parts (Hkv =
/// 1) and v is null.
struct LayerActivations {
  int layer = 0;
  int64_t n_tokens = 0;    // T
  float* q = nullptr;      // (T, Hq, D)
  float* k = nullptr;      // (T, Hkv, D)
  float* v = nullptr;      // (T, Hkv, Dv)
  void* stream = nullptr;  // not null: q, k and v are in device memory, in order on this CUDA stream
  RecentPositions recent;  // set by on_layer, and only where stream is null
};

/// A place between two layers: the index of the next layer, and the residual stream (T, hidden) that enters
/// it.
struct LayerBoundary {
  int layer = 0;
  std::vector<float> x;
};

/// What one run of the decoder computes, and what it reports.
struct ForwardRequest {
  std::span<const int32_t> tokens;  // (T)
  int64_t chunk = 256;              // every chunk starts at position 0; 0: one window
  /// When set, the tokens continue this sequence in one window (chunk is 0). Not for models with gated delta
  /// nets.
  Past* past = nullptr;
  /// Called for every layer in order. It may rewrite q, k and v and set recent positions; the layer attends
  /// to what it leaves there.
  std::function<void(LayerActivations&)> on_layer;
  /// When set, called with the logits (n, vocab) of tokens [first, first + n), from token logits_from on: in
  /// order, after the last layer, in pieces of at most some hundred tokens that never cross a chunk's end.
  /// When not set, the last layer stops after its projections.
  std::function<void(int64_t first, int64_t n, const float* logits)> on_logits;
  int64_t logits_from = 0;
  /// When set beside on_logits, a backend on a device calls it instead. logits are in device memory, in order
  /// on `stream` (a CUDA stream), and valid only until this returns.
  std::function<void(int64_t first, int64_t n, const float* logits, void* stream)> on_device_logits;
  /// When set, the run begins at this boundary, and its result is that of a run from the tokens. Not with
  /// past.
  const LayerBoundary* start = nullptr;
  /// When set, called at every boundary except that of `start`. residual() returns what LayerBoundary::x is
  /// there. It computes only when called, and its result is valid until this function returns.
  std::function<void(int layer, const std::function<std::span<const float>()>& residual)> on_boundary;
  Progress* progress = nullptr;  // one step per layer that is computed
};

/// Runs the decoder layer by layer, with one layer's weights in use at a time. The CPU computes in float32,
/// whatever the type of the weights. Results do not depend on the number of threads.
class Backend {
 public:
  virtual ~Backend() = default;
  /// Exit::input as check_request(), Exit::nonfinite where an activation is not finite, Exit::device on a
  /// GPU.
  virtual void forward(const Checkpoint& model, const ForwardRequest& request) = 0;
  /// Bytes of device memory that the caller may take besides what a run takes. 0 on the CPU, and where the
  /// user has limited the memory.
  virtual int64_t device_room() const { return 0; }
};

/// The decoder on the CPU.
std::unique_ptr<Backend> make_cpu_backend();

/// Bytes of activations that a run of n_tokens tokens holds at its peak, and bytes of the largest layer's
/// weights.
struct MemoryPlan {
  int64_t activation_bytes = 0, layer_bytes = 0;
};
MemoryPlan plan_memory(const Checkpoint& model, int64_t n_tokens, int64_t chunk, bool logits);

}  // namespace blockgtq
