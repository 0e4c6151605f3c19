#pragma once
#include "hf/config.h"
#include "quant/attention_shape.h"

namespace blockgtq {

/// How a model attends, in chunks of at most so many tokens. reference: the layout and metric frequencies of
/// the published code, pairs (i, i + R/2) whatever the model does.
AttentionShape attention_shape(const Config& config, int64_t longest_chunk, bool reference = false);

}  // namespace blockgtq
