#pragma once
#include <cstddef>
#include <cstdint>

namespace blockgtq {

/// out (n, cols) = a (n, depth) b (depth, cols), all row-major and dense. Every output is one chain of fused
/// multiply-adds in ascending depth. So its bits depend neither on n nor on the processor's vector width.
void multiply(const float* a, size_t n, int depth, const float* b, int cols, float* out);

/// The same with b stored transposed, b (cols, depth).
void multiply_transposed(const float* a, size_t n, int depth, const float* b, int cols, float* out);

/// The right-hand matrix as the kernel reads it: panels of kPanel columns, each (depth, kPanel) and dense,
/// one after the other. Columns past the last are zero.
inline constexpr int64_t kPanel = 32;
inline int64_t packed_floats(int64_t depth, int64_t cols) {
  return (cols + kPanel - 1) / kPanel * kPanel * depth;
}

/// Packs b (depth, cols), whose rows are `stride` apart, into packed_floats(depth, cols) floats.
void pack(const float* b, int64_t stride, int64_t depth, int64_t cols, float* panels);

/// The same with b stored transposed, b (cols, depth).
void pack_transposed(const float* b, int64_t stride, int64_t depth, int64_t cols, float* panels);

/// A matrix whose rows are `stride` elements apart.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t stride = 0;
};

/// out (n, cols) = a (n, depth) b; with `add` out + a b. The chains are those of multiply(); with `add` they
/// continue from what is in `out`. b: the panels of pack(), panel_stride floats apart (0: depth * kPanel, as
/// pack() leaves them).
void multiply_packed(Rows<const float> a, int64_t n, int64_t depth, const float* panels, int64_t cols,
                     Rows<float> out, bool add = false, int64_t panel_stride = 0);

}  // namespace blockgtq
