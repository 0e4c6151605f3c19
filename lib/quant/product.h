#pragma once
#include <cstddef>

namespace blockgtq {

/// out (n, cols) = a (n, depth) b (depth, cols), all row-major and dense. Every output is one chain of fused
/// multiply-adds in ascending depth: its bits depend neither on n nor on the processor's vector width.
void multiply(const float* a, size_t n, int depth, const float* b, int cols, float* out);

/// The same with b stored transposed, b (cols, depth).
void multiply_transposed(const float* a, size_t n, int depth, const float* b, int cols, float* out);

}  // namespace blockgtq
