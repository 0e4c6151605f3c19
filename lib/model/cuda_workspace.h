#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "hf/config.h"
#include "kernels/device/float_type.h"

namespace blockgtq {

/// Norms, projections and feed-forward parts take so many tokens at a time.
inline constexpr int64_t kCudaSlabTokens = 2048;

/// What the sizes of a run's arrays depend on besides the config.
struct RunShape {
  int64_t n_tokens = 0, chunk = 0;
  int64_t past = 0;        // P, tokens before these, whose keys and values attention reads too
  bool continues = false;  // there is a Past, to which this run's tokens are added
  cuda::FloatType type = cuda::FloatType::f32;  // of the products' operands
  int64_t converted_bytes = 0;                  // for weights that are stored in another type
  bool logits = false;

  int64_t slab() const { return std::min(n_tokens, kCudaSlabTokens); }
};

/// Hands out device memory piece by piece. Without memory it only counts. So the same code computes the size
/// and the addresses.
class Region {
 public:
  explicit Region(std::byte* base) : base_(base) {}

  template <class T>
  T* take(int64_t n) {
    constexpr int64_t kAlignment = 256;
    const int64_t at = at_;
    at_ += (n * int64_t(sizeof(T)) + kAlignment - 1) / kAlignment * kAlignment;
    most_ = std::max(most_, at_);
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  int64_t mark() const { return at_; }
  void rewind(int64_t mark) { at_ = mark; }  // memory taken since `mark` may be handed out again
  int64_t most() const { return most_; }

 private:
  std::byte* base_;
  int64_t at_ = 0, most_ = 0;
};

/// What a gated delta net holds over T tokens, besides the projections of a slab. H value heads of Dv, K key
/// heads.
struct DeltaWorkspace {
  float* projected = nullptr;                    // (S, outputs of the widest projections)
  float *mixed = nullptr, *convolved = nullptr;  // (T, q and k of K heads, v of H heads)
  float *a = nullptr, *b = nullptr;              // (T, H)
  float* gated = nullptr;                        // (T, H, [z: Dv | result: Dv])
  void* heads = nullptr;                         // (T, H, Dv)
};

/// All that a run holds on the device besides weights. S tokens of a slab, T of the run. `void` arrays have
/// the type of the products. Attention, feed-forward and the output layer overlap in memory.
struct Workspace {
  static constexpr int kWords = 5;  // for find_nonfinite: see CudaDecoder

  float* x = nullptr;                    // (T, hidden), the residual stream
  void* in = nullptr;                    // (S, hidden), the norm of x
  void* normed = nullptr;                // (T, hidden), the same where the feed-forward part reads it too
  float* out = nullptr;                  // (S, hidden), normed or gated before it is added to x
  uint64_t* words = nullptr;             // (kWords)
  float *cos = nullptr, *sin = nullptr;  // (chunk, R / 2)
  float *local_cos = nullptr,
        *local_sin = nullptr;  // the same, for sliding layers with their own frequencies
  void* converted = nullptr;

  // attention
  float *q = nullptr, *k = nullptr, *v = nullptr;  // (T, Hq, D), (T, Hkv, D), (T, Hkv, Dv)
  float *all_k = nullptr, *all_v = nullptr;        // (P + T, ..): k and v are the last rows
  void* heads = nullptr;                           // (T, Hq, Dv)
  float* q_gate = nullptr;                         // (S, Hq, 2 D), queries with their gates
  float* gate = nullptr;                           // (T, Hq, D)
  DeltaWorkspace delta;
  // Latent attention: q is (T, Hq, nope + rope), k (T, rope), the end of all_k (P + T, rope). Keys and values
  // are expanded for P + L tokens at a time.
  float* q_rope = nullptr;      // (T, Hq, rope)
  float* joint = nullptr;       // (T, lora + rope)
  float* q_low = nullptr;       // (S, q_lora)
  void* q_in = nullptr;         // (S, q_lora)
  float* all_latent = nullptr;  // (P + T, lora), normed, where the run continues a sequence
  void* latent = nullptr;       // (P + L, lora), the same in the products' type
  float* kv = nullptr;          // (P + L, Hq, nope + v)
  float* key = nullptr;         // (P + L, Hq, nope + rope)

  // Feed-forward. E rows: one per token and expert that it goes to, or S.
  float* gate_up = nullptr;        // (E, 2 intermediate)
  void* act = nullptr;             // (E, intermediate)
  float* in_float = nullptr;       // (S, hidden), the norm in float32 for the router
  float* router_logits = nullptr;  // (S, n_experts)
  float* open = nullptr;           // (S), the shared expert's gate
  int32_t* expert = nullptr;       // (S, n_per_token)
  float* weight = nullptr;         // (S, n_per_token)
  int32_t* row_token = nullptr;    // (E)
  int32_t* position = nullptr;     // (S, n_per_token)
  void* gathered = nullptr;        // (E, hidden)
  float* expert_out = nullptr;     // (E, hidden)

  float* logits = nullptr;  // (kLogitTokens, vocab)
};

/// Takes all arrays of a run from `region`.
Workspace lay_out(const Config& config, const RunShape& run, Region& region);
/// Takes the arrays of the feed-forward part, which `out` gets.
void lay_out_feed_forward(const Config& config, const RunShape& run, Region& region, Workspace& out);

}  // namespace blockgtq
