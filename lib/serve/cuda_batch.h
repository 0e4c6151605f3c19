#pragma once
#include <vector>

#include "hf/checkpoint.h"
#include "model/cuda_backend.h"
#include "serve/batch.h"
#include "serve/cuda_prompt.h"
#include "serve/cuda_steps.h"

namespace blockgtq {

/// A Batch on a GPU. All texts take pages from one pool. A prompt is read in chunks: a chunk's tokens attend
/// to what the pages hold of earlier tokens, and exactly to each other, and then go into pages. A step takes
/// one token of each text, in one CUDA graph. A slot without a text runs along with a placeholder.
class CudaBatch final : public Batch {
 public:
  /// context: the tokens that any text may grow to. chunk: tokens of a prompt that are read together. `model`
  /// must outlive this object. Exit::device where the model has no decoding step on a GPU, or memory cannot
  /// be allocated.
  CudaBatch(const Checkpoint& model, const AttentionShape& shape, const KvKind& kind,
            const CudaOptions& options, int slots, int64_t context, int64_t chunk);

  int slots() const override { return cache_.batch(); }
  void require(int64_t tokens) const override { cache_.require(tokens); }
  bool has_room(int64_t tokens) const override;
  int add(std::span<const int32_t> prompt, int64_t most) override;
  void step(std::span<const int32_t> tokens) override;
  void end(int slot) override;
  int32_t likeliest(int slot) override { return text(slot).likeliest; }
  std::span<const float> logits(int slot) override;
  int64_t cache_bytes(int slot) const override { return cache_.bytes(text(slot).n); }
  int64_t clipped(int) const override { return 0; }

  /// Keys and values of a slot, as Sequence::held().
  PlainPositions held(int slot, int layer) const;
  const CudaKvCache& cache() const { return cache_; }
  const cuda::Stream& stream() const { return stream_; }

 private:
  struct Text {
    int64_t n = 0, most = 0;  // tokens now, and at most; n = 0: the slot is free
    int32_t likeliest = 0;
    std::vector<float> prompt_logits;  // until the first step
  };

  const Text& text(int slot) const;
  void read_prompt(int slot, std::span<const int32_t> tokens);
  /// The number of tokens in each slot, kIdle for free slots.
  std::vector<int32_t> positions() const;

  const Checkpoint& model_;
  cuda::Stream stream_;
  CudaWeights weights_;
  CudaKvCache cache_;
  CudaSteps steps_;
  CudaPrompt prompt_;
  std::vector<Text> texts_;    // (slots)
  cuda::PinnedBuffer logits_;  // (slots, vocab), of the last step where has_logits_
  bool has_logits_ = false;
};

}  // namespace blockgtq
