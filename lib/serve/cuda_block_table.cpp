#include "serve/cuda_block_table.h"

namespace blockgtq {

CudaBlockTable::CudaBlockTable(std::string what, int batch, int64_t stride, int64_t first, int64_t pages,
                               const cuda::Stream& stream)
    : pool_(std::move(what), pages),
      stride_(stride),
      first_(first),
      held_(size_t(batch)),
      table_(size_t(batch * stride) * sizeof(int32_t)) {
  const std::vector<int32_t> spare(size_t(batch * stride), spare_page());
  cuda::upload(table_.as(), spare.data(), table_.bytes(), stream);
  stream.synchronize();  // the copy reads `spare`, which ends here
}

void CudaBlockTable::require(int b, int64_t n) const {
  if (missing(b, n) > pool_.free()) throw pool_.lack(missing(b, n));
}

void CudaBlockTable::grow(int b, int64_t n, const cuda::Stream& stream) {
  if (missing(b, n) <= 0) return;
  check(first_ + n <= stride_, "CudaBlockTable: a sequence longer than its row");
  const std::vector<int32_t> pages = pool_.take(missing(b, n));
  std::vector<int32_t>& held = held_[size_t(b)];
  write(b, held.size(), pages, stream);
  held.insert(held.end(), pages.begin(), pages.end());
}

void CudaBlockTable::clear(int b, const cuda::Stream& stream) {
  std::vector<int32_t>& held = held_[size_t(b)];
  if (held.empty()) return;
  write(b, 0, std::vector<int32_t>(held.size(), spare_page()), stream);
  pool_.give_back(held);
  held.clear();
}

void CudaBlockTable::write(int b, size_t done, std::span<const int32_t> pages, const cuda::Stream& stream) {
  cuda::upload(table_.as<int32_t>() + b * stride_ + first_ + int64_t(done), pages.data(), pages.size_bytes(),
               stream);
  stream.synchronize();  // the copy reads `pages`, which end here
}

}  // namespace blockgtq
