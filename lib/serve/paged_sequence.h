#pragma once
#include <memory>

#include "hf/checkpoint.h"
#include "quant/attention_shape.h"
#include "serve/kv_kind.h"
#include "serve/sequence.h"

namespace blockgtq {

/// On the CPU, from pages: the twin of make_cuda_sequence(). A prompt's tokens attend to each other exactly
/// and are put into the pages, every token after them attends to what the pages hold, its own key and value
/// included. Exit::input where the model has no keys and values per head. model outlives it; context: the
/// tokens it may come to.
std::unique_ptr<Sequence> make_paged_sequence(const Checkpoint& model, const AttentionShape& shape,
                                              const KvKind& kind, int64_t context);

}  // namespace blockgtq
