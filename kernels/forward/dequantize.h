#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

/// GGUF's block formats. hf/tensor.h has their sizes, and hf/gguf_blocks.h the CPU twin.
enum class BlockType { q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs, mxfp4 };

/// out = the numbers of n_blocks blocks that lie one behind the other, at any alignment. In float32 they
/// equal the twin's to the last bit. In other types they are those numbers rounded to nearest even.
void dequantize(BlockType type, const void* blocks, int64_t n_blocks, void* out, FloatType to,
                const Stream& stream);

}  // namespace blockgtq::cuda
