#pragma once
#include <memory>

#include "hf/checkpoint.h"
#include "model/cuda_backend.h"
#include "quant/attention_shape.h"
#include "serve/batch.h"
#include "serve/kv_kind.h"
#include "serve/sequence.h"

namespace blockgtq {

/// What of this model neither a decoding step nor the forward pass can continue a text with on a GPU; empty
/// where nothing is.
std::string without_sequence(const Config& config);

/// What of this model a decoding step on a GPU has no kernel for ("latent attention"); empty where nothing
/// is.
std::string without_step(const Config& config);

/// On a GPU, from the pages themselves: a prompt is read in chunks, whose tokens attend to what the pages
/// hold of those before and exactly to each other, and are put into the pages; every token after the prompt
/// attends to what the pages hold. A model without such a step has no pages: every chunk and every token is a
/// forward pass over an exact past in float32. model outlives it; context: the
/// tokens it may come to; chunk: tokens of a chunk. Exit::device where the model has no sequence, or no step
/// and packed pages are asked for, or the memory cannot be had.
std::unique_ptr<Sequence> make_cuda_sequence(const Checkpoint& model, const AttentionShape& shape,
                                             const KvKind& kind, const CudaOptions& options, int64_t context,
                                             int64_t chunk = kPromptChunk);

/// The same of so many texts side by side, whose pages come from one pool; context: the tokens that any of
/// them may come to. There are pages for all of them at that length, or as many as options allow.
std::unique_ptr<Batch> make_cuda_batch(const Checkpoint& model, const AttentionShape& shape,
                                       const KvKind& kind, const CudaOptions& options, int slots,
                                       int64_t context, int64_t chunk = kPromptChunk);

}  // namespace blockgtq
