#pragma once
#include "hf/config.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// The model's attention as our files record it, for chunks of at most so many tokens (RoPE's frequencies may
/// depend on that). reference: the layout and metric frequencies of the published code, which pairs (i, i +
/// R/2) whatever the model does.
AttentionShape attention_shape(const Config& config, int64_t longest_chunk, bool reference = false);

}  // namespace blockgtq
