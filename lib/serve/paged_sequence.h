#pragma once
#include <memory>

#include "hf/checkpoint.h"
#include "quant/attention_shape.h"
#include "serve/kv_kind.h"
#include "serve/sequence.h"

namespace blockgtq {

/// Whether keys and values of such a model lie in pages. Latent attention (MLA) has none, and on a GPU
/// neither has what without_step() names. Without pages they are held exactly.
bool has_pages(const Config& config, bool on_gpu);

/// A Sequence on the CPU that reads and writes pages, as make_cuda_sequence() does. A prompt is read in
/// chunks: a chunk's tokens attend to what the pages hold of earlier tokens, and exactly to each other, and
/// then go into pages. Every token after the prompt attends to what the pages hold, its own key and value
/// included. context: the tokens that the text may grow to. chunk: tokens of a chunk. `model` must outlive
/// the result. Exit::input where the model has no keys and values per head.
std::unique_ptr<Sequence> make_paged_sequence(const Checkpoint& model, const AttentionShape& shape,
                                              const KvKind& kind, int64_t context,
                                              int64_t chunk = kPromptChunk);

}  // namespace blockgtq
