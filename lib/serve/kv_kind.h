#pragma once
#include <vector>

#include "base/page.h"
#include "cache/exact_page.h"
#include "cache/packed_cache.h"
#include "quant/exact_window.h"

namespace blockgtq {

/// How many pages so many positions take; the last one may be filled in part.
constexpr int64_t pages_of(int64_t positions) {
  return (positions + kPagePositions - 1) / kPagePositions;
}

/// Pages of the ring that holds the last positions in fp16: enough for those of any length.
constexpr int64_t ring_pages(const ExactWindow& window) {
  return window.recent > 0 ? pages_of(window.recent) + 1 : 0;
}

/// Bytes of the pages that n positions of one sequence fill, where such a window is exact. packed, exact: of
/// a page of that kind, all layers together.
constexpr int64_t kv_bytes(const ExactWindow& window, int64_t n, int64_t packed, int64_t exact) {
  return (pages_of(packed_end(window, n)) - window.sink / kPagePositions) * packed +
         pages_of(exact_length(window, n)) * exact;
}

/// How keys and values of sequences lie in pages of 64 positions.
struct KvKind {
  std::vector<PackedSpec> packed;  // (L), or empty: all positions in fp16
  ExactWindow exact;               // positions in fp16 beside packed pages; the sink is whole pages

  bool is_packed() const { return !packed.empty(); }
  /// The positions in fp16 of a text of at most `capacity` tokens. Where nothing is packed that is all of
  /// them, as a sink.
  ExactWindow window(int64_t capacity) const {
    return is_packed() ? exact : ExactWindow{pages_of(capacity) * kPagePositions, 0};
  }
};

}  // namespace blockgtq
