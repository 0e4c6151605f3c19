#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace blockgtq {

/// Pages 0 .. total - 1 that sequences share, and which of them are free. The same calls give the same pages.
class PagePool {
 public:
  /// what: the pages' name in messages ("packed").
  PagePool(std::string what, int64_t total);

  int64_t total() const { return total_; }
  int64_t free() const { return int64_t(free_.size()); }

  /// Takes n free pages: first those given back last, then new ones in ascending order. Where fewer are free,
  /// it takes none and throws lack(n).
  std::vector<int32_t> take(int64_t n);
  /// Returns pages to the pool. check()s that each was taken.
  void give_back(std::span<const int32_t> pages);
  const std::vector<int32_t>& free_pages() const { return free_; }

  /// The error for a caller that needs n pages and cannot have them; Exit::device.
  Error lack(int64_t n) const;

 private:
  std::string what_;
  int64_t total_;
  std::vector<int32_t> free_;  // the next one is the last
  std::vector<bool> taken_;    // (total)
};

}  // namespace blockgtq
