#pragma once
#include <string>

#include "hf/gguf.h"

namespace blockgtq {

/// The tokenizer.json of the file's tokenizer: byte-level BPE (tokenizer.ggml.model gpt2) by the name of its
/// pattern (tokenizer.ggml.pre), or SentencePiece's BPE with scores (llama). Exit::input names any other,
/// with the hint to use --ids.
std::string gguf_tokenizer(const GgufMetadata& metadata);
std::string gguf_tokenizer(const fs::path& gguf);

}  // namespace blockgtq
