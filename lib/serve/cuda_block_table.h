#pragma once
#include <string>
#include <vector>

#include "kernels/device/device.h"
#include "serve/page_pool.h"

namespace blockgtq {

/// The block table of B sequences on a GPU, whose pages come from a pool. Its rows lie where they lie, so
/// that a graph that reads them can be replayed; they are written by the calls that change them.
class CudaBlockTable {
 public:
  /// A row's entries before `first` never get a page of their own. what: as of PagePool.
  CudaBlockTable(std::string what, int batch, int64_t stride, int64_t first, int64_t pages,
                 const cuda::Stream& stream);

  const PagePool& pool() const { return pool_; }
  int64_t stride() const { return stride_; }
  const int32_t* rows() const { return table_.as<int32_t>(); }  // (B, stride)
  /// The page behind the pool's last, which entries without one of their own name: what is written there is
  /// not read.
  int32_t spare_page() const { return int32_t(pool_.total()); }

  /// Exit::device where the pool has not pages enough for sequence b to hold n.
  void require(int b, int64_t n) const;
  /// Sequence b holds n pages, or as many as it has; as require(). Waits where something changes.
  void grow(int b, int64_t n, const cuda::Stream& stream);
  /// Gives back what sequence b holds. Waits.
  void clear(int b, const cuda::Stream& stream);

 private:
  int64_t missing(int b, int64_t n) const { return n - int64_t(held_[size_t(b)].size()); }
  /// Entries behind the first `done` of what sequence b holds.
  void write(int b, size_t done, std::span<const int32_t> pages, const cuda::Stream& stream);

  PagePool pool_;
  int64_t stride_, first_;
  std::vector<std::vector<int32_t>> held_;  // (B) of pages
  cuda::Buffer table_;
};

}  // namespace blockgtq
