#pragma once
#include <memory>

#include "hf/checkpoint.h"
#include "model/cuda_backend.h"
#include "quant/attention_shape.h"
#include "serve/batch.h"
#include "serve/kv_kind.h"
#include "serve/sequence.h"

namespace blockgtq {

/// What of this model a decoding step on a GPU has no kernel for ("experts"); empty where nothing is.
std::string without_step(const Config& config);

/// On a GPU, from the pages themselves: the prompt's tokens attend to each other exactly and are put into the
/// pages, every token after them attends to what the pages hold. model outlives it; context: the tokens it
/// may come to. Exit::device where the model has no such step, or the memory cannot be had.
std::unique_ptr<Sequence> make_cuda_sequence(const Checkpoint& model, const AttentionShape& shape,
                                             const KvKind& kind, const CudaOptions& options, int64_t context);

/// The same of so many texts side by side, whose pages come from one pool; context: the tokens that any of
/// them may come to. There are pages for all of them at that length, or as many as options allow.
std::unique_ptr<Batch> make_cuda_batch(const Checkpoint& model, const AttentionShape& shape,
                                       const KvKind& kind, const CudaOptions& options, int slots,
                                       int64_t context);

}  // namespace blockgtq
