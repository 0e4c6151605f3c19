#pragma once
#include <memory>

#include "hf/checkpoint.h"
#include "model/cuda_backend.h"
#include "quant/attention_shape.h"
#include "serve/batch.h"
#include "serve/kv_kind.h"
#include "serve/sequence.h"

namespace blockgtq {

/// The part of this model that has neither a decoding step nor a forward pass on a GPU, in words; empty where
/// every part has one.
std::string without_sequence(const Config& config);

/// The part of this model that a decoding step on a GPU has no kernel for ("latent attention"); empty where
/// there is none.
std::string without_step(const Config& config);

/// A Sequence on a GPU that reads and writes pages. A prompt is read in chunks: a chunk's tokens attend to
/// what the pages hold of earlier tokens, and exactly to each other, and then go into pages. Every token
/// after the prompt attends to what the pages hold. A model without a decoding step has no pages: every chunk
/// and every token is a forward pass over exact keys and values in float32.
/// context: the tokens that the text may grow to. chunk: tokens of a chunk. `model` must outlive the result.
/// Exit::device where the model has no sequence on a GPU, or no decoding step and packed pages are asked for,
/// or memory cannot be allocated.
std::unique_ptr<Sequence> make_cuda_sequence(const Checkpoint& model, const AttentionShape& shape,
                                             const KvKind& kind, const CudaOptions& options, int64_t context,
                                             int64_t chunk = kPromptChunk);

/// A Batch of so many texts in the same way. Their pages come from one pool. context: the tokens that any
/// text may grow to. There are pages for all of them at that length, or as many as options allow.
std::unique_ptr<Batch> make_cuda_batch(const Checkpoint& model, const AttentionShape& shape,
                                       const KvKind& kind, const CudaOptions& options, int slots,
                                       int64_t context, int64_t chunk = kPromptChunk);

}  // namespace blockgtq
