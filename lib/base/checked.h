#pragma once
#include <cstdint>

#include "base/error.h"

namespace blockgtq {

/// a * b and a + b, for sizes read from a file. Exit::input, naming `what`, where the result overflows.
inline uint64_t checked_mul(uint64_t a, uint64_t b, const std::string& what) {
  uint64_t r;
  if (__builtin_mul_overflow(a, b, &r)) fail_input("{}: size overflows: {} x {}", what, a, b);
  return r;
}
inline uint64_t checked_add(uint64_t a, uint64_t b, const std::string& what) {
  uint64_t r;
  if (__builtin_add_overflow(a, b, &r)) fail_input("{}: size overflows: {} + {}", what, a, b);
  return r;
}

}  // namespace blockgtq
