#pragma once
#include <cstddef>
#include <cstdint>

namespace blockgtq {

/// Bit streams, least significant bit first: n codes of `bits` bits each, from bit `offset` of `stream` on.
/// Codes are unsigned and below 2^bits; bits in 1..8. pack_bits() sets bits only, so the bytes must be zero
/// before.
void pack_bits(const uint8_t* codes, size_t n, int bits, size_t offset, uint8_t* stream);
void unpack_bits(const uint8_t* stream, size_t offset, int bits, size_t n, uint8_t* codes);

}  // namespace blockgtq
