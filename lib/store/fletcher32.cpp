#include "store/fletcher32.h"

#include <algorithm>
#include <cstring>

namespace blockgtq {

uint32_t fletcher32(std::string_view bytes) {
  constexpr size_t kBlock = 720;  // so many bytes' sums fit 32 bits
  const size_t n = bytes.size();
  const auto byte = [&](size_t i) { return i < n ? uint32_t(uint8_t(bytes[i])) : 0; };
  const auto fold = [](uint32_t sum) { return (sum & 0xffff) + (sum >> 16); };
  uint32_t a = 0, b = 0;
  for (size_t first = 0; first < n; first += kBlock) {
    for (size_t i = first; i < std::min(n, first + kBlock); i += 2) {
      a += byte(i) << 8 | byte(i + 1);
      b += a;
    }
    a = fold(a);
    b = fold(b);
  }
  return fold(b) << 16 | fold(a);
}

uint32_t checksum_of(std::string_view packed) {
  uint32_t stored = 0;
  std::memcpy(&stored, packed.data() + packed.size() - kChecksumBytes, kChecksumBytes);
  return stored;
}

bool has_its_checksum(std::string_view packed) {
  return checksum_of(packed) == fletcher32(packed.substr(0, packed.size() - kChecksumBytes));
}

}  // namespace blockgtq
