#pragma once
#include <cstdint>

namespace blockgtq::cuda {

/// Pages of one layer in device memory, which are found through a block table: position t of sequence b lies
/// in page block_table[b][t / 64].
struct PageTable {
  const uint8_t* pages = nullptr;        // (n_pages, page_bytes), 16-byte aligned
  const int32_t* block_table = nullptr;  // (B, stride)
  int64_t stride = 0;
  const int32_t* lengths = nullptr;  // (B) positions held
};

}  // namespace blockgtq::cuda
