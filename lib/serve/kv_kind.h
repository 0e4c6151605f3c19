#pragma once
#include <vector>

#include "base/page.h"
#include "cache/exact_page.h"
#include "cache/packed_cache.h"
#include "quant/exact_window.h"

namespace blockgtq {

/// Pages that so many positions fill, the last one in part.
constexpr int64_t pages_of(int64_t positions) {
  return (positions + kPagePositions - 1) / kPagePositions;
}

/// Bytes of the pages that n positions of one sequence fill, where such a window is exact. packed, exact: of
/// a page of that kind, all layers together.
constexpr int64_t kv_bytes(const ExactWindow& window, int64_t n, int64_t packed, int64_t exact) {
  return (pages_of(packed_end(window, n)) - window.sink / kPagePositions) * packed +
         pages_of(exact_length(window, n)) * exact;
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
