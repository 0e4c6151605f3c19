#pragma once
#include "base/error.h"
#include "base/page.h"
#include "base/parallel.h"
#include "cache/attention.h"

namespace blockgtq {

/// Reads positions [first, end) of a cache in parallel. read(t, page, k, v) reads one of them. pages: those
/// of positions [0, 64), [64, 128), ...
template <class Read>
PlainPositions read_positions(int n_kv_heads, int dim, std::span<const uint8_t* const> pages, int64_t first,
                              int64_t end, const Read& read) {
  check(int64_t(pages.size()) * kPagePositions >= end, "a cache: positions beyond the pages");
  const int64_t width = int64_t(n_kv_heads) * dim, n = std::max<int64_t>(end - first, 0);
  PlainPositions x{n_kv_heads, dim, std::vector<double>(size_t(n * width)),
                   std::vector<double>(size_t(n * width))};
  parallel_for(size_t(n), [&](size_t i) {
    const int64_t t = first + int64_t(i);
    read(t, pages[size_t(t / kPagePositions)], &x.k[i * size_t(width)], &x.v[i * size_t(width)]);
  });
  return x;
}

}  // namespace blockgtq
