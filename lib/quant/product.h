#pragma once
#include <cstddef>
#include <cstdint>

namespace blockgtq {

/// out (n, cols) = a (n, depth) b (depth, cols), all row-major and dense. Every output is one chain of fused
/// multiply-adds in ascending depth: its bits depend neither on n nor on the processor's vector width.
void multiply(const float* a, size_t n, int depth, const float* b, int cols, float* out);

/// The same with b stored transposed, b (cols, depth).
void multiply_transposed(const float* a, size_t n, int depth, const float* b, int cols, float* out);

/// The right side of a product as the kernel reads it: panels of kPanel columns, each (depth, kPanel) and
/// dense, one after the other. Columns past the last are zero.
inline constexpr int64_t kPanel = 32;
inline int64_t packed_floats(int64_t depth, int64_t cols) {
  return (cols + kPanel - 1) / kPanel * kPanel * depth;
}

/// b (depth, cols), rows `stride` apart, into packed_floats(depth, cols).
void pack(const float* b, int64_t stride, int64_t depth, int64_t cols, float* panels);

/// The same with b stored transposed, b (cols, depth).
void pack_transposed(const float* b, int64_t stride, int64_t depth, int64_t cols, float* panels);

/// Rows that lie `stride` apart.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t stride = 0;
};

/// out (n, cols) = a (n, depth) b, or out + a b where `add`, in the same chains as multiply(): they go on
/// from what is in `out`. b: the panels of pack(), panel_stride apart (0: depth * kPanel, as pack() leaves
/// them).
void multiply_packed(Rows<const float> a, int64_t n, int64_t depth, const float* panels, int64_t cols,
                     Rows<float> out, bool add = false, int64_t panel_stride = 0);

}  // namespace blockgtq
