#include "quant/packing.h"

namespace blockgtq {

void pack_bits(const uint8_t* codes, size_t n, int bits, size_t offset, uint8_t* stream) {
  uint8_t* out = stream + offset / 8;
  int filled = int(offset % 8);  // bits of *out that are taken, or of `pending`
  uint64_t pending = 0;
  for (size_t i = 0; i < n; ++i) {
    pending |= uint64_t(codes[i]) << filled;
    filled += bits;
    while (filled >= 8) {
      *out++ |= uint8_t(pending);
      pending >>= 8;
      filled -= 8;
    }
  }
  if (pending != 0) *out |= uint8_t(pending);
}

void unpack_bits(const uint8_t* stream, size_t offset, int bits, size_t n, uint8_t* codes) {
  if (n == 0) return;
  const uint8_t mask = uint8_t((1u << bits) - 1);
  const uint8_t* in = stream + offset / 8;
  uint32_t pending = uint32_t(*in++) >> (offset % 8);
  int left = 8 - int(offset % 8);
  for (size_t i = 0; i < n; ++i) {
    if (left < bits) {  // the stream ends with its last code: no byte beyond it is read
      pending |= uint32_t(*in++) << left;
      left += 8;
    }
    codes[i] = uint8_t(pending) & mask;
    pending >>= bits;
    left -= bits;
  }
}

}  // namespace blockgtq
