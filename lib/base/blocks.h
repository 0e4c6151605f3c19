#pragma once
#include <array>
#include <vector>

namespace blockgtq {

/// Which two coordinates RoPE rotates together: half (i, i + R/2) in Llama, Qwen, Mistral; interleaved
/// (2i, 2i + 1) in GLM-4 and DeepSeek-V2.
enum class Pairing { half, interleaved };

inline const char* name(Pairing p) {
  return p == Pairing::half ? "half" : "interleaved";
}

/// How the D coordinates of a head split into D/2 blocks: R/2 rotary blocks in order of frequency, then the
/// D - R static coordinates in pairs (R + i, R + i + (D - R)/2).
struct BlockLayout {
  int head_dim = 0;    // D, even
  int rotary_dim = 0;  // R <= D, even
  Pairing pairing = Pairing::half;

  int n_blocks() const { return head_dim / 2; }
  int n_rotary() const { return rotary_dim / 2; }

  /// The two coordinates of block b.
  std::array<int, 2> coords(int b) const {
    if (b >= n_rotary()) {
      const int i = b - n_rotary();
      return {rotary_dim + i, rotary_dim + i + (head_dim - rotary_dim) / 2};
    }
    if (pairing == Pairing::half) return {b, b + n_rotary()};
    return {2 * b, 2 * b + 1};
  }

  bool operator==(const BlockLayout&) const = default;
};

}  // namespace blockgtq
