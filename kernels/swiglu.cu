// out(t, i) = g / (1 + e^-g) * u with g = gate_up(t, i), u = gate_up(t, width + i).
//
//   gate_up   t0: [gate: width][up: width]  t1: ...     dense, float32;   out (n, width) dense
//
// Bytes moved: n width (8 + size of type).
#include "check.cuh"
#include "float_type.cuh"
#include "swiglu.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float gated(float g, float u) {
  return g / (1.0f + expf(-g)) * u;
}

/// blockIdx.x is the row, blockIdx.y a piece of it. Four columns per thread when kPacks.
template <bool kPacks, class Out>
__global__ void __launch_bounds__(kThreads) swiglu_kernel(const float* gate_up, int64_t width, Out* out) {
  const int64_t t = blockIdx.x, i = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  const float* gate = gate_up + 2 * t * width;
  const float* up = gate + width;
  if (kPacks) {
    if (4 * i >= width) return;
    const Pack4<float> g = reinterpret_cast<const Pack4<float>*>(gate)[i];
    const Pack4<float> u = reinterpret_cast<const Pack4<float>*>(up)[i];
    Pack4<Out> y;
    for (int j = 0; j < 4; ++j) store(&y.v[j], gated(g.v[j], u.v[j]));
    reinterpret_cast<Pack4<Out>*>(out + t * width)[i] = y;
  } else if (i < width) {
    store(out + t * width + i, gated(gate[i], up[i]));
  }
}

}  // namespace

void swiglu(const float* gate_up, int64_t n, int64_t width, void* out, FloatType type, const Stream& stream) {
  constexpr int64_t kMaxPieces = 65535;
  check(n >= 0 && n <= INT32_MAX && width > 0 && gate_up && out, "swiglu: arguments");
  if (n == 0) return;
  const bool packs = width % 4 == 0 && aligned(gate_up, 16) && aligned(out, 4 * bytes_of(type));
  const int64_t pieces = ((packs ? width / 4 : width) + kThreads - 1) / kThreads;
  check(pieces <= kMaxPieces, "swiglu: too wide");
  const dim3 grid{unsigned(n), unsigned(pieces)};
  with_type(type, [&](auto* out_type) {
    auto* to = static_cast<decltype(out_type)>(out);
    if (packs)
      swiglu_kernel<true><<<grid, kThreads, 0, raw(stream)>>>(gate_up, width, to);
    else
      swiglu_kernel<false><<<grid, kThreads, 0, raw(stream)>>>(gate_up, width, to);
  });
  check_launch("swiglu");
}

}  // namespace blockgtq::cuda
