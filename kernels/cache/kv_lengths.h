#pragma once
#include <cstdint>

#include "kernels/device/device.h"
#include "quant/exact_window.h"

namespace blockgtq::cuda {

/// What attention reads of every sequence of a batch. Sequence b holds positions[b] tokens, and one more with
/// this step. cache/exact_page.h has packed_end() and exact_length().
struct KvLengths {
  const int32_t* positions = nullptr;  // (B)
  int batch = 0;
  ExactWindow window;  // the sink is whole pages
  int ring = 0;        // pages of recent positions, used in turn
  // (B, stride) pages of the sink, those of the ring, and one for tokens that are not exact.
  const int32_t* pages = nullptr;
  int32_t* packed = nullptr;  // (B) where the packed positions end
  int32_t* exact = nullptr;   // (B) the number of exact positions
  int32_t* starts = nullptr;  // (B) where the new token goes among the exact ones
  int32_t* table = nullptr;   // (B, stride) the same pages, with those of the ring from the oldest on
  int64_t stride = 0;         // sink pages + ring + 1
};
void kv_lengths(const KvLengths& job, const Stream& stream);

}  // namespace blockgtq::cuda
