#pragma once
#include <memory>
#include <span>
#include <vector>

#include "kernels/forward/blas.h"
#include "kernels/forward/norm.h"
#include "model/cuda_workspace.h"
#include "serve/cuda_kv_cache.h"
#include "serve/cuda_steps.h"
#include "serve/cuda_weights.h"

namespace blockgtq {

/// Calls f(first, count) for consecutive pieces of n tokens, at most `most` at a time.
template <class F>
void in_pieces(int64_t n, int64_t most, const F& f) {
  for (int64_t first = 0; first < n; first += most) f(first, std::min(most, n - first));
}

/// Reads prompts on a GPU, chunk by chunk, with resident weights, into the pages. A chunk's tokens attend to
/// what the pages hold of earlier chunks, and exactly to each other. weights, cache and steps must outlive
/// this object.
class CudaPrompt {
 public:
  /// chunk: the most tokens that are read together. Exit::device where memory or cuBLASLt is not available.
  CudaPrompt(const CudaWeights& weights, const CudaKvCache& cache, const CudaSteps& steps,
             const cuda::Stream& stream, int64_t chunk);

  /// Puts the tokens into the pages of sequence b, which must hold none. Writes the logits (vocab) behind the
  /// last token. Waits. Exit::nonfinite where a logit is not finite.
  void read(int b, std::span<const int32_t> tokens, std::span<float> logits);
  /// The most device memory that an object takes besides weights and cache, for sequences of `context`
  /// tokens.
  static int64_t most_bytes(const CudaWeights& weights, const AttentionShape& shape, int64_t context,
                            int64_t chunk);

 private:
  /// C tokens of a chunk, S tokens of a slab of it. `void` arrays have the type of the products; 16-bit
  /// arrays are fp16.
  struct Workspace {
    int32_t* tokens = nullptr;                // (C)
    float* x = nullptr;                       // (C, hidden), the residual stream
    uint16_t *q = nullptr, *heads = nullptr;  // (C, Hq, D): queries; the result of attention
    uint16_t *k = nullptr, *v = nullptr;      // (C, H, D)
    void* in = nullptr;                       // (S, hidden) or (S, Hq D): the input of a product
    void* normed = nullptr;            // (C, hidden), the norm of x where both parts of a layer read it
    float* out = nullptr;              // (S, hidden), normed or gated before it is added to x
    float* projected = nullptr;        // (S, Hq D): queries, or keys, or values
    blockgtq::Workspace feed_forward;  // of a slab
    float* logits = nullptr;           // (vocab)
  };
  static int64_t slab_of(int64_t chunk) { return std::min(chunk, kCudaSlabTokens); }
  static Workspace lay_out(const CudaWeights& weights, int64_t chunk, Region& region);
  int64_t slab() const { return slab_of(chunk_); }

  void make_scratch(int64_t first, int64_t n);
  void embed(int64_t n);
  void attention(int layer, int b, int64_t first, int64_t n);
  void put_heads(const CudaMatrix& m, const void* in, const float* norm_weight, const cuda::RopeTable& rope,
                 int64_t n, uint16_t* to);
  void take_logits(const float* x, int64_t n_tokens, std::span<float> logits);
  cuda::Norm norm_of(const CudaNorm& weights, const float* x, int64_t n) const;
  void* low(void* x, int64_t first) const;  // element `first` of an array of the products' type
  const void* input(const CudaNorm& weights, const float* x, int64_t n, void* in, float* y = nullptr);
  void project(const CudaMatrix& m, const void* x, int64_t n, float* y, bool add = false);
  void add_output(const CudaMatrix& m, const CudaNorm& of_output, const void* in, int64_t n, float* x);

  // cuda_prompt_feed_forward.cpp
  void feed_forward(int layer, int64_t n);
  void activate(int64_t n, int64_t width);
  void add_experts(const CudaExperts& w, const void* in, int64_t n, float* x);
  std::vector<int64_t> choose(const CudaExperts& w, int64_t n);
  void add_shared(const CudaExperts& w, const void* in, int64_t n, float* x);

  const CudaWeights& weights_;
  const CudaKvCache& cache_;
  const CudaSteps& steps_;
  const cuda::Stream& stream_;
  const int64_t chunk_;
  cuda::Blas blas_;
  cuda::Buffer memory_, scratch_;  // scratch_: of attention
  cuda::PinnedBuffer
      routing_;  // (3, S, experts of a token): experts, the tokens of rows, the rows of choices
  Workspace ws_;
};

}  // namespace blockgtq
