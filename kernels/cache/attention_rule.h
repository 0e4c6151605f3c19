#pragma once
#include <algorithm>
#include <cstdint>

namespace blockgtq::cuda {

/// What a decoding step's attention does beside softmax(scale q K^T) V. By default nothing.
struct AttentionRule {
  int64_t window = 0;  // how many positions a query sees, its own being the last; 0: all
  // (B) the positions of the new tokens, for a window. They are read while the preceding kernel still runs,
  // so the kernel that writes them must have ended when that one began.
  const int32_t* positions = nullptr;
  float softcap = 0;             // c: a logit x becomes c tanh(x / c); 0: none
  const float* sinks = nullptr;  // (Hq) one more logit of every head, without a value; null: none

  /// Whether attention kernels have to know of the rule. Only the merge has to know of sinks.
  bool of_kernels() const { return window > 0 || softcap > 0; }
  bool plain() const { return !of_kernels() && !sinks; }
  /// An upper bound of how many stretches of `size` positions, of `all`, hold a position that a query sees.
  int64_t stretches(int64_t all, int64_t size) const {
    return window > 0 ? std::min(all, (window + size - 2) / size + 1) : all;
  }
};

}  // namespace blockgtq::cuda
