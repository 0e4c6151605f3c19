// What matvec.cu and expert_matvec.cu share: the queue through which W arrives, the norming and rounding of
// vectors, the sums of a tile. matvec.cu has the layout.
#pragma once
#include "kernels/device/float_type.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/forward/matvec.h"

namespace blockgtq::cuda {

constexpr int kWarps = 8, kThreads = 32 * kWarps, kTileRows = 8;  // of a block
constexpr int kRowBytes = 256, kPieces = 4;                       // of a slab
constexpr int kTileUnits = kTileRows * kRowBytes / 16;
constexpr int kStages = 4;
constexpr int kQueueBytes = kWarps * kStages * kTileRows * kRowBytes;

/// copy_line(), or 16 bytes of zero where `there` is false.
__device__ inline void copy_or_zero(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from),
               "r"(there ? 16 : 0)
               : "memory");
}

__device__ inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __half*) {
  mma(d, a, b0, b1);
}
__device__ inline void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                __nv_bfloat16*) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Packs of four columns that a thread keeps in registers between the two passes of a norm.
constexpr int kHeld = 4;

/// The norm's weights at this thread's first columns. They are loaded before the preceding kernel ends.
struct HeldWeights {
  Pack4<float> w[kHeld];
  __device__ explicit HeldWeights(const MatVec& p) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int k = 4 * (threadIdx.x + i * kThreads);
      w[i] = p.norm_weight && k < p.cols ? *reinterpret_cast<const Pack4<float>*>(p.norm_weight + k)
                                         : Pack4<float>{{1, 1, 1, 1}};
    }
  }
};

/// vectors (n, cols) = x, normed where there is a norm, and rounded to T. All threads call it. sums:
/// (n, kWarps) of scratch.
template <class T, class X>
__device__ inline void stage_vectors(const MatVec& p, const X* x, const HeldWeights& held, float* sums,
                                     T* vectors) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int b = 0; b < p.n; ++b) {
    Pack4<X> mine[kHeld];
    float sum = 0;
    const auto at = [&](int64_t k) { return *reinterpret_cast<const Pack4<X>*>(x + b * p.cols + k); };
    const auto add = [&](const Pack4<X>& v) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sum = fmaf(to_float(v.v[i]), to_float(v.v[i]), sum);
    };
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int k = 4 * (threadIdx.x + i * kThreads);
      if (k < p.cols) mine[i] = at(k);
    }
    float root = 1;
    if (p.norm_weight) {
#pragma unroll
      for (int i = 0; i < kHeld; ++i)
        if (4 * (threadIdx.x + i * kThreads) < p.cols) add(mine[i]);
      for (int64_t k = 4 * (threadIdx.x + kHeld * kThreads); k < p.cols; k += 4 * kThreads) add(at(k));
      sum = warp_sum(sum);
      if (lane == 0) sums[b * kWarps + warp] = sum;
      __syncthreads();
      float all = 0;
#pragma unroll
      for (int i = 0; i < kWarps; ++i) all += sums[b * kWarps + i];
      root = rsqrtf(all / float(p.cols) + p.norm_eps);
    }
    const auto put = [&](int64_t k, const Pack4<X>& v, const Pack4<float>& weight) {
      Pack4<T> y;
#pragma unroll
      for (int i = 0; i < 4; ++i)
        store(&y.v[i],
              p.norm_weight ? to_float(v.v[i]) * root * (weight.v[i] + p.norm_offset) : to_float(v.v[i]));
      *reinterpret_cast<Pack4<T>*>(vectors + b * p.cols + k) = y;
    };
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int k = 4 * (threadIdx.x + i * kThreads);
      if (k < p.cols) put(k, mine[i], held.w[i]);
    }
    for (int64_t k = 4 * (threadIdx.x + kHeld * kThreads); k < p.cols; k += 4 * kThreads) {
      Pack4<float> weight{{1, 1, 1, 1}};
      if (p.norm_weight) weight = *reinterpret_cast<const Pack4<float>*>(p.norm_weight + k);
      put(k, at(k), weight);
    }
  }
  __syncthreads();
}

/// A lane's sums. 16 bits: accumulators of products with the tile, two that take turns, so that a product
/// need not wait for the one before it. float32: sums of row g over the lane's columns, by vector.
template <class T, int kVectors>
struct Sums {
  float d[2][4] = {};

  struct Vectors {
    uint4 x, y;  // rows g and g + 8 of A, for two products
  };
  /// from: the lane's columns; begin(b) is the offset of vector b. Rows of A beyond the n vectors read the
  /// last one; nobody takes their results.
  template <class Begin>
  __device__ static Vectors read(int n, const Begin& begin, const T* from) {
    const int g = threadIdx.x % 32 / 4;
    Vectors v{*reinterpret_cast<const uint4*>(from + begin(min(g, n - 1))), {}};
    if constexpr (kVectors > 8) v.y = *reinterpret_cast<const uint4*>(from + begin(min(g + 8, n - 1)));
    return v;
  }
  /// w: the lane's 16 bytes of W.
  template <class Begin>
  __device__ void add(int, const Begin&, const Vectors& v, const uint4& w) {
    const uint32_t low[4] = {v.x.x, v.y.x, v.x.y, v.y.y}, high[4] = {v.x.z, v.y.z, v.x.w, v.y.w};
    multiply(d[0], low, w.x, w.y, static_cast<T*>(nullptr));
    multiply(d[1], high, w.z, w.w, static_cast<T*>(nullptr));
  }

  /// to (n, 8): the sums of this warp.
  __device__ void leave(int n, float* to) const {
    const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
    for (int h = 0; h < kVectors / 8; ++h)
      if (g + 8 * h < n)
        *reinterpret_cast<float2*>(to + (g + 8 * h) * kTileRows + 2 * c) = {
            d[0][2 * h] + d[1][2 * h], d[0][2 * h + 1] + d[1][2 * h + 1]};
  }
};

template <int kVectors>
struct Sums<float, kVectors> {
  float d[kVectors] = {};

  using Vectors = const float*;
  template <class Begin>
  __device__ static Vectors read(int, const Begin&, const float* from) {
    return from;
  }
  template <class Begin>
  __device__ void add(int n, const Begin& begin, Vectors from, const uint4& w) {
    const float4 row = reinterpret_cast<const float4&>(w);
#pragma unroll
    for (int b = 0; b < kVectors; ++b) {
      if (b >= n) break;
      const float4 x = *reinterpret_cast<const float4*>(from + begin(b));
      d[b] = fmaf(row.x, x.x, fmaf(row.y, x.y, fmaf(row.z, x.z, fmaf(row.w, x.w, d[b]))));
    }
  }

  __device__ void leave(int n, float* to) const {
    const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
    for (int b = 0; b < kVectors; ++b) {
      float sum = d[b];
      sum += __shfl_xor_sync(kWholeWarp, sum, 1);
      sum += __shfl_xor_sync(kWholeWarp, sum, 2);
      if (c == 0 && b < n) to[b * kTileRows + g] = sum;
    }
  }
};

/// Floats that the sums of a tile take.
__host__ __device__ inline int sums_of(const MatVec& p) {
  return kWarps * p.n * kTileRows;
}

/// The result for vector b and row r of the tile, which is W's row `row`: the sums of all warps, the
/// bias, the scale.
__device__ inline float result_of(const MatVec& p, const float* sums, int b, int r, int64_t row) {
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sum += sums[(w * p.n + b) * kTileRows + r];
  return p.scale * (sum + (p.bias ? __ldg(p.bias + row) : 0.0f));
}

}  // namespace blockgtq::cuda
