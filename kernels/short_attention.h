#pragma once
#include "packed_attention.h"

namespace blockgtq::cuda {

/// Whether a step's contexts are so short, and so few, that short_attention() takes them: a device of sm_90
/// or newer, nothing exact, and all pages of a KV head in the shared memory of one cluster of blocks.
bool is_short(const DecodeAttention& step);

/// The same as decode_attention(), in one launch and without scratch.
void short_attention(const DecodeAttention& step, const Stream& stream);

}  // namespace blockgtq::cuda
