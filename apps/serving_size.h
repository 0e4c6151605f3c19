#pragma once
#include <cstdint>
#include <functional>

#include "quant/attention_shape.h"

namespace blockgtq {

/// Bytes of the pages that n positions of one sequence fill.
using HeldBytes = std::function<int64_t(int64_t n)>;

/// What a position of the context adds to the memory of `batch` sequences: pages, and the angles of RoPE.
double bytes_per_position(const AttentionShape& shape, int batch, int64_t context, const HeldBytes& held);

/// The positions that `memory` bytes hold, `fixed` of which do not grow with them.
int64_t longest_context(double memory, double fixed, double each);

/// Bytes of one sequence's pages that a decoding step reads: of a layer with a window no more than that.
double bytes_read(const AttentionShape& shape, int64_t context, const HeldBytes& held);

}  // namespace blockgtq
