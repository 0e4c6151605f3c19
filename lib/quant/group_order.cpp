#include "quant/group_order.h"

#include <algorithm>
#include <bit>

namespace blockgtq {
namespace {

struct Block {
  int bits, index;
};
bool below(const Block& a, const Block& b) {
  return a.bits < b.bits;
}

constexpr int kInsertion = 16;  // ranges up to this length are left to the final insertion sort

/// Moves the median of first[1], the middle and last[-1] to first.
void median_to_front(Block* first, Block* last) {
  Block *a = first + 1, *b = first + (last - first) / 2, *c = last - 1;
  Block* median;
  if (below(*a, *b))
    median = below(*b, *c) ? b : below(*a, *c) ? c : a;
  else
    median = below(*a, *c) ? a : below(*b, *c) ? c : b;
  std::swap(*first, *median);
}

/// Hoare partition of [first + 1, last) around *first.
Block* partition(Block* first, Block* last) {
  const Block pivot = *first;
  Block *low = first + 1, *high = last;
  for (;;) {
    while (below(*low, pivot)) ++low;
    --high;
    while (below(pivot, *high)) --high;
    if (!(low < high)) return low;
    std::swap(*low, *high);
    ++low;
  }
}

void quicksort(Block* first, Block* last, int depth) {
  while (last - first > kInsertion) {
    if (depth-- == 0) {  // eight distinct keys never come here in practice, but it bounds the time
      std::partial_sort(first, last, last, below);
      return;
    }
    median_to_front(first, last);
    Block* cut = partition(first, last);
    quicksort(cut, last, depth);
    last = cut;
  }
}

}  // namespace

std::vector<int> group_order(std::span<const uint8_t> bits) {
  std::vector<Block> blocks;
  for (size_t i = 0; i < bits.size(); ++i) blocks.push_back({bits[i], int(i)});
  if (!blocks.empty())
    quicksort(blocks.data(), blocks.data() + blocks.size(), 2 * (std::bit_width(blocks.size()) - 1));
  std::stable_sort(blocks.begin(), blocks.end(), below);  // what the final insertion sort does
  std::vector<int> order;
  for (const Block& b : blocks) order.push_back(b.index);
  return order;
}

}  // namespace blockgtq
