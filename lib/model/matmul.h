#pragma once
#include <cstdint>

#include "model/weights.h"

namespace blockgtq {

/// y = x W^T + b: x (n, cols), y (n, rows), float32. A few rows of weights at a time are converted and
/// packed, once for all tokens. Every output is one chain of fused multiply-adds (quant/product.h). So y
/// depends neither on the number of threads, nor on the other tokens, nor on the processor.
void linear(const Linear& w, const float* x, int64_t n, float* y);

/// The same for weights that are mapped from this checkpoint. Their pages leave the resident set when they
/// are done with, so it holds some 32 MiB of them whatever the size of the matrix.
void linear(const Checkpoint& model, const Linear& w, const float* x, int64_t n, float* y);

}  // namespace blockgtq
