#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace blockgtq {

/// Which pairs of tokens merge, into which token, and in which order: a hash table with open addressing.
class MergeTable {
 public:
  struct Merge {
    int32_t left = -1, right = -1;  // left -1: an empty slot
    uint32_t rank = 0;              // the lowest rank merges first
    int32_t result = -1;
  };

  explicit MergeTable(size_t n_merges = 0) {
    size_t n = 16;
    while (n < 2 * n_merges) n *= 2;
    slots_.resize(n);
  }

  void insert(const Merge& merge) {
    slots_[slot(merge.left, merge.right)] = merge;
  }  // the last of a pair counts

  const Merge* find(int32_t left, int32_t right) const {
    const Merge& found = slots_[slot(left, right)];
    return found.left < 0 ? nullptr : &found;
  }

  template <class F>
  void for_each(F&& f) const {
    for (const Merge& merge : slots_)
      if (merge.left >= 0) f(merge);
  }

 private:
  size_t slot(int32_t left, int32_t right) const {
    const uint64_t key = uint64_t(uint32_t(left)) << 32 | uint32_t(right);
    size_t i = size_t(key * 0x9E3779B97F4A7C15u >> 20) & (slots_.size() - 1);
    while (slots_[i].left >= 0 && (slots_[i].left != left || slots_[i].right != right))
      i = (i + 1) & (slots_.size() - 1);
    return i;
  }

  std::vector<Merge> slots_;  // a power of two, at most half full
};

}  // namespace blockgtq
