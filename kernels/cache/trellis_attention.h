#pragma once
#include <cstdint>

#include "kernels/cache/packed_attention.h"
#include "kernels/cache/trellis_table.h"

namespace blockgtq::cuda {

/// decode_attention() over pages of trellis codes. step.layer is not read. Head dimensions are 64 and
/// 128, bits 2 to 4.
int64_t trellis_scratch_bytes(const TrellisLayer& layer, const DecodeAttention& step);
void trellis_attention(const TrellisLayer& layer, const DecodeAttention& step, void* scratch,
                       const Stream& stream);

}  // namespace blockgtq::cuda
