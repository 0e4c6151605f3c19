#include "serve/page_pool.h"

#include <fmt/format.h>

#include <numeric>

namespace blockgtq {

PagePool::PagePool(std::string what, int64_t total)
    : what_(std::move(what)), total_(total), free_(size_t(total)), taken_(size_t(total)) {
  check(total >= 0 && total <= INT32_MAX, "PagePool: pages");
  std::iota(free_.rbegin(), free_.rend(), 0);
}

std::vector<int32_t> PagePool::take(int64_t n) {
  check(n >= 0, "PagePool: pages");
  if (n > free()) throw lack(n);
  const std::vector<int32_t> pages(free_.rbegin(), free_.rbegin() + n);
  free_.resize(free_.size() - size_t(n));
  for (const int32_t page : pages) taken_[size_t(page)] = true;
  return pages;
}

void PagePool::give_back(std::span<const int32_t> pages) {
  for (size_t i = pages.size();
       i-- > 0;) {  // in reverse, so that a sequence that takes as many gets them in the same order
    const int32_t page = pages[i];
    check(page >= 0 && page < total_ && taken_[size_t(page)], "PagePool: a page that is not taken");
    taken_[size_t(page)] = false;
    free_.push_back(page);
  }
}

Error PagePool::lack(int64_t n) const {
  return {Exit::device, fmt::format("{} pages: {} needed, {} of {} free", what_, n, free(), total_),
          "fewer texts at once, fewer tokens, or a larger --gpu-memory"};
}

}  // namespace blockgtq
