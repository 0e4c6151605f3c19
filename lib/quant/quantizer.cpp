#include "quant/quantizer.h"

#include "base/error.h"

namespace blockgtq {

void require_codable(bool finite) {
  if (!finite) throw Error(Exit::nonfinite, "a key or value that float32 cannot encode: not finite");
}

int64_t count_clipped(const uint8_t* halves, size_t n) {
  constexpr unsigned kLargestHalf = 0x7bff;  // 65504
  int64_t count = 0;
  for (size_t i = 0; i < n; ++i) {
    const unsigned half = halves[2 * i] | unsigned(halves[2 * i + 1]) << 8;
    count += (half & 0x7fff) == kLargestHalf;
  }
  return count;
}

int64_t Quantizer::clipped(const uint8_t* codes, size_t n) const {
  int64_t count = 0;
  for (size_t i = 0; i < n; ++i) count += count_clipped(codes + i * code_bytes(), n_halves());
  return count;
}

}  // namespace blockgtq
