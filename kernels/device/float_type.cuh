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

/// Two neighbouring numbers of fp16, or of bf16.
__device__ inline float2 to_float2(uint32_t x, bool bf16) {
  return bf16 ? make_float2(__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u))
              : __half22float2(*reinterpret_cast<const __half2*>(&x));
}

/// x as fp16, rounded to nearest even and clipped to 65504. A NaN stays one, which fmaxf would turn into a
/// number.
__device__ inline __half to_half(float x) {
  return __float2half_rn(fabsf(x) > 65504.0f ? copysignf(65504.0f, x) : x);
}

/// Two neighbouring numbers of fp16 or bf16 as fp16.
__device__ inline uint32_t to_halves(uint32_t x, bool bf16) {
  if (!bf16) return x;
  const float2 y = to_float2(x, true);
  const __half2 halves(to_half(y.x), to_half(y.y));
  return *reinterpret_cast<const uint32_t*>(&halves);
}

/// Stores x as element i of an array of fp16, or of bf16.
__device__ inline void store_16(void* to, int64_t i, float x, bool bf16) {
  if (bf16)
    static_cast<__nv_bfloat16*>(to)[i] = __float2bfloat16_rn(x);
  else
    static_cast<__half*>(to)[i] = __float2half_rn(x);
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
