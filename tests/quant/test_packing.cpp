#include <vector>

#include "catch.h"
#include "quant/packing.h"
#include "quant/random.h"

using namespace blockgtq;

TEST_CASE("the bit order, spelled out") {
  // 1, 2, 3, 4 at three bits from bit 0, least significant bit first: 001 010 011 100 -> 1101'0001 | 1000
  const uint8_t codes[] = {1, 2, 3, 4};
  uint8_t stream[2] = {};
  pack_bits(codes, 4, 3, 0, stream);
  CHECK(stream[0] == 0xd1);
  CHECK(stream[1] == 0x08);
}

TEST_CASE("every width at every offset comes back and leaves its neighbours alone") {
  Random random(1);
  for (int bits = 1; bits <= 8; ++bits)
    for (size_t offset = 0; offset < 18; ++offset)
      for (const size_t n : {size_t(0), size_t(1), size_t(2), size_t(7), size_t(8), size_t(9), size_t(128)}) {
        std::vector<uint8_t> codes(n), back(n, 0xee);
        for (uint8_t& c : codes) c = uint8_t(random.next_u64() & ((1u << bits) - 1));
        const size_t end = offset + n * bits, bytes = (end + 7) / 8;
        // The range is zero, every bit outside is one; the two guard bytes lie behind the last byte touched.
        std::vector<uint8_t> stream(bytes + 2, 0xff);
        for (size_t b = offset; b < end; ++b) stream[b / 8] &= uint8_t(~(1u << (b % 8)));
        pack_bits(codes.data(), n, bits, offset, stream.data());
        for (size_t b = 0; b < 8 * stream.size(); ++b) {
          const unsigned bit = (stream[b / 8] >> (b % 8)) & 1;
          const bool inside = b >= offset && b < end;
          const unsigned expected = inside ? (codes[(b - offset) / bits] >> ((b - offset) % bits)) & 1 : 1;
          REQUIRE(bit == expected);
        }
        // An exact copy: reading one byte past the stream would be caught by the address sanitizer.
        const std::vector<uint8_t> exact(stream.begin(), stream.begin() + bytes);
        unpack_bits(exact.data(), offset, bits, n, back.data());
        REQUIRE(back == codes);
      }
}

TEST_CASE("streams of different widths behind one another") {
  Random random(2);
  std::vector<std::vector<uint8_t>> parts;
  std::vector<size_t> offsets;
  size_t end = 16;
  for (int bits = 1; bits <= 8; ++bits) {
    parts.emplace_back(2 * bits + 1);
    for (uint8_t& c : parts.back()) c = uint8_t(random.next_u64() & ((1u << bits) - 1));
    offsets.push_back(end);
    end += parts.back().size() * bits;
  }
  std::vector<uint8_t> stream((end + 7) / 8);
  for (int i = 7; i >= 0; --i) pack_bits(parts[i].data(), parts[i].size(), i + 1, offsets[i], stream.data());
  for (int i = 0; i < 8; ++i) {
    std::vector<uint8_t> back(parts[i].size());
    unpack_bits(stream.data(), offsets[i], i + 1, back.size(), back.data());
    CHECK(back == parts[i]);
  }
}
