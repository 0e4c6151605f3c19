#pragma once
#include <cstdint>
#include <vector>

#include "hf/config.h"

namespace blockgtq {

/// cos and sin of every position and rotary block, times the attention factor. (length, R / 2) float32,
/// computed in float64.
struct RotaryTable {
  BlockLayout layout;
  int64_t length = 0;
  std::vector<float> cos, sin;
};

/// The table of positions 0 .. longest_chunk - 1, with the frequencies that the model uses for sequences of
/// that length: by config.rope, or with `local` by its local_rope.
RotaryTable rotary_table(const Config& config, int64_t longest_chunk, bool local = false);

/// Rotates x (n, heads, D) in place; token t is at position first + t % chunk. Coordinates without RoPE stay.
/// Tokens are `stride` floats apart, heads head_stride.
void rotate(const RotaryTable& table, float* x, int64_t n, int64_t stride, int64_t heads, int64_t head_stride,
            int64_t chunk, int64_t first = 0);

}  // namespace blockgtq
