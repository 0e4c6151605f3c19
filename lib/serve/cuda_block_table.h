#pragma once
#include <string>
#include <vector>

#include "kernels/device/device.h"
#include "serve/page_pool.h"

namespace blockgtq {

/// The page table of B sequences on a GPU, whose pages come from a pool. The rows stay at one address, so a
/// CUDA graph that reads them can be replayed. Calls that change rows write them on the device.
class CudaBlockTable {
 public:
  /// A row has `stride` entries; those before `first` never get a page of their own. `pages` is the size of
  /// the pool. what: as in PagePool.
  CudaBlockTable(std::string what, int batch, int64_t stride, int64_t first, int64_t pages,
                 const cuda::Stream& stream);

  const PagePool& pool() const { return pool_; }
  int64_t stride() const { return stride_; }
  const int32_t* rows() const { return table_.as<int32_t>(); }  // (B, stride)
  /// The page behind the pool's last one. Entries without a page name it; what is written there is never
  /// read.
  int32_t spare_page() const { return int32_t(pool_.total()); }

  /// Exit::device where the pool has not enough free pages for sequence b to hold n.
  void require(int b, int64_t n) const;
  /// Gives sequence b pages until it holds n; it keeps more if it has more. Errors as require(). Waits where
  /// something changes.
  void grow(int b, int64_t n, const cuda::Stream& stream);
  /// Returns the pages of sequence b to the pool. Waits.
  void clear(int b, const cuda::Stream& stream);

 private:
  int64_t missing(int b, int64_t n) const { return n - int64_t(held_[size_t(b)].size()); }
  /// Writes the entries of sequence b's pages behind the first `done` of them.
  void write(int b, size_t done, std::span<const int32_t> pages, const cuda::Stream& stream);

  PagePool pool_;
  int64_t stride_, first_;
  std::vector<std::vector<int32_t>> held_;  // (B) of pages
  cuda::Buffer table_;
};

}  // namespace blockgtq
