#pragma once
#include <memory>

#include "hf/checkpoint.h"
#include "quant/attention_shape.h"
#include "serve/kv_kind.h"
#include "serve/sequence.h"

namespace blockgtq {

/// Whether keys and values of such a model lie in pages: not of latent attention, and on a GPU not of what
/// without_step() names. Without pages they are held exactly.
bool has_pages(const Config& config, bool on_gpu);

/// On the CPU, from pages: the twin of make_cuda_sequence(). A prompt is read in chunks, whose tokens attend
/// to what the pages hold of those before and exactly to each other, and are put into the pages; every token
/// after the prompt attends to what the pages hold, its own key and value included. Exit::input where the
/// model has no keys and values per head. model outlives it; context: the tokens it may come to; chunk:
/// tokens of a chunk.
std::unique_ptr<Sequence> make_paged_sequence(const Checkpoint& model, const AttentionShape& shape,
                                              const KvKind& kind, int64_t context,
                                              int64_t chunk = kPromptChunk);

}  // namespace blockgtq
