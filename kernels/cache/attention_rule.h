#pragma once
#include <algorithm>
#include <cstdint>

namespace blockgtq::cuda {

/// What a decoding step's attention does beside softmax(scale q K^T) V. The default: nothing.
struct AttentionRule {
  int64_t window = 0;                  // positions that a query sees, its own the last of them; 0: all
  const int32_t* positions = nullptr;  // (B) where the new tokens stand, for a window; read while the kernel
                                       // before still runs: what writes them must have ended when that began
  float softcap = 0;                   // c: c tanh(x / c) of a logit x; 0: none
  const float* sinks = nullptr;        // (Hq) one more logit of a head, without a value; null: none

  /// Whether attention kernels have to know of it; of sinks only the merge does.
  bool of_kernels() const { return window > 0 || softcap > 0; }
  bool plain() const { return !of_kernels() && !sinks; }
  /// At most so many stretches of `size` positions, of `all`, have one that a query sees.
  int64_t stretches(int64_t all, int64_t size) const {
    return window > 0 ? std::min(all, (window + size - 2) / size + 1) : all;
  }
};

}  // namespace blockgtq::cuda
