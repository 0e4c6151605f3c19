#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace blockgtq {

/// As HDF5's filter 3 has it: sums of 16-bit words, high byte first, an odd byte as the high one; of the two
/// zeros of such sums 0xffff, unless all words are zero.
uint32_t fletcher32(std::string_view bytes);

/// A packed chunk of an array ends with the checksum of what is before.
inline constexpr size_t kChecksumBytes = 4;
uint32_t checksum_of(std::string_view packed);  // of at least so many bytes
bool has_its_checksum(std::string_view packed);

}  // namespace blockgtq
