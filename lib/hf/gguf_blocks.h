#pragma once
#include <cstddef>
#include <cstdint>

#include "hf/tensor.h"

namespace blockgtq {

inline constexpr int64_t kMaxGgufBlock = 256;  // numbers of the largest block

/// out[i] = number i of n_blocks blocks as GGUF stores them, block_size(dtype).elements each, bit for bit as
/// dequantize() of the `gguf` Python package. Only for quantized types.
void dequantize(DType dtype, const std::byte* blocks, int64_t n_blocks, float* out);

}  // namespace blockgtq
