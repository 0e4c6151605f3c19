#pragma once
#include "kernels/cache/packed_attention.h"

namespace blockgtq::cuda {

/// decode_attention() in one launch and without scratch, for contexts so short and so few that all pages of a
/// KV head fit into the shared memory of one cluster of blocks. It needs sm_90 or newer and no exact
/// positions. Where it cannot serve the step it returns false and launches nothing.
bool short_attention(const DecodeAttention& step, const Stream& stream);

}  // namespace blockgtq::cuda
