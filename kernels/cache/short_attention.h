#pragma once
#include "kernels/cache/packed_attention.h"

namespace blockgtq::cuda {

/// The same as decode_attention(), in one launch and without scratch, where contexts are so short and so few
/// that all pages of a KV head are in the shared memory of one cluster of blocks, on sm_90 or newer and with
/// nothing exact; otherwise false, and nothing is launched.
bool short_attention(const DecodeAttention& step, const Stream& stream);

}  // namespace blockgtq::cuda
