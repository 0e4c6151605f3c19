#pragma once
#include <cstdint>

#include "base/blocks.h"
#include "kernels/forward/heads.h"

namespace blockgtq::cuda {

/// cos and sin by position and rotary block, (length, R / 2), in device memory.
struct RopeTable {
  BlockLayout layout;
  int64_t length = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
};

/// Rotates the heads of n tokens in place, token t at position t % chunk. The other coordinates
/// stay as they are.
void rope(const RopeTable& table, const Heads& x, int64_t n, int64_t heads, int64_t chunk,
          const Stream& stream);

}  // namespace blockgtq::cuda
