#pragma once
#include <cstdint>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// Heads in a matrix over tokens: head h of token t starts at data + t * stride + h * head_stride.
template <class T>
struct HeadsOf {
  T* data = nullptr;
  int64_t stride = 0, head_stride = 0;
};
using Heads = HeadsOf<float>;
using ConstHeads = HeadsOf<const float>;

/// Copies the first `width` values of every head of n tokens. A head_stride of 0 in `from` gives all heads
/// the same values.
void copy_heads(const ConstHeads& from, const Heads& to, int64_t n, int64_t heads, int64_t width,
                const Stream& stream);

}  // namespace blockgtq::cuda
