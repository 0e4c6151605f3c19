#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/device/float_type.h"

namespace blockgtq::cuda {

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}

/// Stores x in the type of `to`, rounded to nearest even. Beyond the range of fp16 it becomes infinity.
__device__ inline void store(float* to, float x) {
  *to = x;
}
__device__ inline void store(__nv_bfloat16* to, float x) {
  *to = __float2bfloat16_rn(x);
}
__device__ inline void store(__half* to, float x) {
  *to = __float2half_rn(x);
}

/// Four elements, loaded or stored at once.
template <class T>
struct alignas(4 * sizeof(T)) Pack4 {
  T v[4];
};

inline bool aligned(const void* p, int64_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % uintptr_t(bytes) == 0;
}

/// Calls body with a null pointer to the C++ type that `type` stands for.
template <class Body>
void with_type(FloatType type, const Body& body) {
  switch (type) {
    case FloatType::f32:
      return body(static_cast<float*>(nullptr));
    case FloatType::bf16:
      return body(static_cast<__nv_bfloat16*>(nullptr));
    case FloatType::f16:
      return body(static_cast<__half*>(nullptr));
  }
}

}  // namespace blockgtq::cuda
