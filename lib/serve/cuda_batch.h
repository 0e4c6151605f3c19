#pragma once
#include <vector>

#include "hf/checkpoint.h"
#include "model/cuda_backend.h"
#include "serve/batch.h"
#include "serve/cuda_prompt.h"
#include "serve/cuda_steps.h"

namespace blockgtq {

/// Texts that grow side by side on a GPU, from the pages of one pool: a prompt is read in chunks, whose
/// tokens attend to what the pages hold of those before and exactly to each other, and are put into pages;
/// then every step takes a token of each text, in one CUDA graph. A slot without a text takes part idly.
class CudaBatch final : public Batch {
 public:
  /// context: the tokens that any of the texts may come to; chunk: of a prompt, read together. Exit::device
  /// where the model has no such step, or the memory cannot be had. model outlives this.
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

  /// As Sequence::held().
  PlainPositions held(int slot, int layer) const;
  const CudaKvCache& cache() const { return cache_; }
  const cuda::Stream& stream() const { return stream_; }

 private:
  struct Text {
    int64_t n = 0, most = 0;  // tokens held, and at most; n 0: the slot is free
    int32_t likeliest = 0;
    std::vector<float> prompt_logits;  // until the first step
  };

  const Text& text(int slot) const;
  void read_prompt(int slot, std::span<const int32_t> tokens);
  /// The tokens that slots hold, kIdle for those that are free.
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
