#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "capi/status.h"

namespace blockgtq::capi {

/// The size that a caller gave, who knows at least the fields of the interface's first version.
template <class T>
size_t size_of(const T* given, size_t first_bytes) {
  require(given, "the structure is a null pointer");
  uint32_t size = 0;
  std::memcpy(&size, given, sizeof size);
  require(size >= first_bytes, "struct_size: {}, at least {} is expected: it is to be set to sizeof", size,
          first_bytes);
  require(size <= 1 << 16, "struct_size: {}, at most {} is expected", size, 1 << 16);
  return size;
}

/// A caller's structure as this library knows it. A caller with a newer header has more fields, which must be
/// zero; fields that an older caller lacks are zero here. first_bytes: its size in the first version.
template <class T>
T arguments(const T* given, size_t first_bytes = sizeof(T)) {
  const size_t size = size_of(given, first_bytes), both = std::min(size, sizeof(T));
  T known{};
  std::memcpy(&known, given, both);
  const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
  require(std::all_of(bytes + both, bytes + size, [](unsigned char b) { return b == 0; }),
          "struct_size: {}: this library is older than its caller, and does not know fields that are set",
          size);
  return known;
}

/// Writes a structure that describes, as much of it as the caller knows.
template <class T>
void give(T known, T* to, size_t first_bytes = sizeof(T)) {
  const size_t size = size_of(to, first_bytes);
  known.struct_size = uint32_t(size);
  std::memcpy(to, &known, std::min(size, sizeof known));
}

}  // namespace blockgtq::capi
