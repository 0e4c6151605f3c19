#pragma once
#include <vector>

#include "base/page.h"
#include "cache/packed_cache.h"
#include "quant/exact_window.h"

namespace blockgtq {

/// Pages that so many positions fill, the last one in part.
constexpr int64_t pages_of(int64_t positions) {
  return (positions + kPagePositions - 1) / kPagePositions;
}

/// How keys and values of sequences lie in pages of 64 positions.
struct KvKind {
  std::vector<PackedSpec> packed;  // (L), or empty: all in fp16
  ExactWindow exact;               // beside packed pages, in fp16; sink: whole pages

  bool is_packed() const { return !packed.empty(); }
  /// The positions in fp16, of at most so many: all, as a sink, where nothing is packed.
  ExactWindow window(int64_t capacity) const {
    return is_packed() ? exact : ExactWindow{pages_of(capacity) * kPagePositions, 0};
  }
};

}  // namespace blockgtq
