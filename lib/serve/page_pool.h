#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace blockgtq {

/// Pages 0 .. total - 1 that sequences share: which of them are free. Same calls, same numbers.
class PagePool {
 public:
  /// what: the pages' name in messages ("packed").
  PagePool(std::string what, int64_t total);

  int64_t total() const { return total_; }
  int64_t free() const { return int64_t(free_.size()); }

  /// n pages that were free: those given back last come first, then numbers that rise. Where fewer are free
  /// none is taken, and lack(n) thrown.
  std::vector<int32_t> take(int64_t n);
  /// A page that is not taken is a defect of the caller.
  void give_back(std::span<const int32_t> pages);
  const std::vector<int32_t>& free_pages() const { return free_; }

  /// What is said to who needs n pages and cannot have them; Exit::device.
  Error lack(int64_t n) const;

 private:
  std::string what_;
  int64_t total_;
  std::vector<int32_t> free_;  // the next one is the last
  std::vector<bool> taken_;    // (total)
};

}  // namespace blockgtq
