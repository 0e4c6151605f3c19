#pragma once
#include <cstdint>

namespace blockgtq::cuda {

/// The type of a matrix product's operands: float32, or 16 bits with float32 accumulation.
enum class FloatType { f32, bf16, f16 };

inline int64_t bytes_of(FloatType type) {
  return type == FloatType::f32 ? 4 : 2;
}

}  // namespace blockgtq::cuda
