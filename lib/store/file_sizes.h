#pragma once
#include <cstdint>

#include "quant/attention_shape.h"

namespace blockgtq {

/// Bytes of what our files of a run hold, before they are compressed: activations of `dump`, by bytes of a
/// number (4, or 2 with --store bf16 and f16); statistics of `energy` in windows of `chunk`.
int64_t acts_bytes(const AttentionShape& shape, int64_t n_tokens, int number_bytes);
int64_t stats_bytes(const AttentionShape& shape, int64_t n_tokens, int64_t chunk);

}  // namespace blockgtq
