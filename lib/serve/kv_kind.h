#pragma once
#include <vector>

#include "cache/packed_cache.h"
#include "quant/exact_window.h"

namespace blockgtq {

/// How keys and values of sequences lie in pages of 64 positions.
struct KvKind {
  std::vector<PackedSpec> packed;  // (L), or empty: all in fp16
  ExactWindow exact;               // beside packed pages, in fp16; sink: whole pages

  bool is_packed() const { return !packed.empty(); }
};

}  // namespace blockgtq
