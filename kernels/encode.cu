// The fast twin of encode_exact(): y = R x on the tensor cores, r = |y|, codes by comparing y with r times
// the boundaries, packed in registers.
//
//   keys  (T, H, D) fp16, bf16 or float32
//   codes head by head (T, bytes): [fp16 norm per group][bit streams, least significant bit first]
//
// A block serves one head: its table (encode_table.cuh, 33 KB at D = 128) stays in shared memory while four
// warps go over tiles of 16 keys, each warp on its own:
//
//   global --16-byte loads--> A operand in registers (next tile's loads already under way)
//   table  --16-byte loads--> B operand;  m16n8k16 fp16 products, float32 sums: a lane holds 2 rows x D/4
//   outputs norms by a sum of squares over the quad;  codes;  each lane packs its run of neighbouring codes;
//   runs meet in the warp's staging area (integer atomicOr: any order, same bytes) --16-byte stores--> global
//
// Bytes moved: D sizeof(key) + code bytes per key; 306 at D = 128, 16-bit keys, 3 bits.
//
// Accuracy. fp16 and bf16 keys are exact in fp16 (bf16 after scaling a key by a power of two: elements 2^-26
// below the largest lose bits, which is nothing), float32 keys are split into two fp16 parts, 22 bits. R is
// rounded to fp16: an error of 2.0e-4 of each entry (root mean square), hence of a coordinate's standard
// deviation. A code flips where a boundary lies within the error: probability 0.8 error sum_b phi(b), with
// the sum over boundaries 1.7 at 3 bits, 6.4 at 5, 51 at 8. Flipped codes: 2.8e-4 (3 bits), 1.1e-3 (5 bits),
// and they would be 8e-3 at 8 bits: so from 6 bits on R is split into two parts too, which leaves less than
// 1e-4. A flip lies where two centroids are equally near: the distortion moves by less than 1e-5 of itself.
// The norm is that of y: off by 2e-4 / sqrt(d), that is one unit of fp16 in 4 % of the norms at d = 128,
// where both neighbours are equally near.
#include <algorithm>

#include "check.cuh"
#include "encode.h"
#include "encode_table.cuh"
#include "float_type.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;
constexpr int kRows = 16;  // keys of a warp's tile
constexpr int kMaxFastDim = 128;
constexpr unsigned kAll = 0xffffffffu;

/// A lane's part of 16 keys as loaded: 32 * kPairs coordinates of rows lane / 4 and lane / 4 + 8.
template <class T, int kPairs>
struct Raw {
  static constexpr int kPer = 16 / sizeof(T), kLoads = kPairs * 8 / kPer;  // elements per load; loads per row
  uint4 v[kLoads][2];
};

/// The A operands: steps of 16 coordinates, four registers of two fp16 each; a float32 key is high + low.
template <class T, int kPairs>
struct Operand {
  uint32_t high[2 * kPairs][4];
  uint32_t low[sizeof(T) == 4 ? 2 * kPairs : 1][4];
  float unscale[2];  // true row = row held * unscale
};

template <class T, int kPairs>
__device__ void load(Raw<T, kPairs>& raw, const T* keys, int64_t tile, int64_t n_tokens, int64_t token_stride,
                     int dim) {
  using R = Raw<T, kPairs>;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t t = tile * kRows + lane / 4 + 8 * half;
    const T* row = keys + t * token_stride;
#pragma unroll
    for (int i = 0; i < R::kLoads; ++i) {
      const int j = (4 * i + lane % 4) * R::kPer;
      raw.v[i][half] = t < n_tokens && j < dim ? __ldcs(reinterpret_cast<const uint4*>(row + j)) : uint4{};
    }
  }
}

__device__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAll, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAll, x, 2));
}
__device__ float quad_sum(float x) {
  x += __shfl_xor_sync(kAll, x, 1);
  return x + __shfl_xor_sync(kAll, x, 2);
}

/// The power of two that brings `largest` to [2^12, 2^13), and its inverse.
__device__ float scale_for(float largest, float& unscale) {
  const int exponent = max(int(__float_as_uint(largest) >> 23), 12);
  unscale = __uint_as_float(uint32_t(exponent - 12) << 23);
  return __uint_as_float(uint32_t(266 - exponent) << 23);
}

__device__ uint32_t pack_half(float x, float y) {
  const __half2 h = __floats2half2_rn(x, y);
  return *reinterpret_cast<const uint32_t*>(&h);
}

template <int kPairs>
__device__ void to_operand(const Raw<__half, kPairs>& raw, Operand<__half, kPairs>& a) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    a.unscale[half] = 1;
#pragma unroll
    for (int s = 0; s < kPairs; ++s) {
      const uint4 v = raw.v[s][half];
      a.high[2 * s][half] = v.x;
      a.high[2 * s][2 + half] = v.y;
      a.high[2 * s + 1][half] = v.z;
      a.high[2 * s + 1][2 + half] = v.w;
    }
  }
}

template <int kPairs>
__device__ void to_operand(const Raw<__nv_bfloat16, kPairs>& raw, Operand<__nv_bfloat16, kPairs>& a) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = 0;
#pragma unroll
    for (int s = 0; s < kPairs; ++s) {
      const uint32_t word[4] = {raw.v[s][half].x, raw.v[s][half].y, raw.v[s][half].z, raw.v[s][half].w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
        largest = fmaxf(largest, fmaxf(fabsf(__uint_as_float(word[i] << 16)),
                                       fabsf(__uint_as_float(word[i] & 0xffff0000u))));
    }
    const float scale = scale_for(quad_max(largest), a.unscale[half]);
#pragma unroll
    for (int s = 0; s < kPairs; ++s) {
      const uint32_t word[4] = {raw.v[s][half].x, raw.v[s][half].y, raw.v[s][half].z, raw.v[s][half].w};
#pragma unroll
      for (int i = 0; i < 4; ++i)
        a.high[2 * s + i / 2][i % 2 * 2 + half] =
            pack_half(__uint_as_float(word[i] << 16) * scale, __uint_as_float(word[i] & 0xffff0000u) * scale);
    }
  }
}

template <int kPairs>
__device__ void to_operand(const Raw<float, kPairs>& raw, Operand<float, kPairs>& a) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = 0;
#pragma unroll
    for (int s = 0; s < 2 * kPairs; ++s) {
      const uint4 v = raw.v[s][half];
      largest = fmaxf(largest, fmaxf(fmaxf(fabsf(__uint_as_float(v.x)), fabsf(__uint_as_float(v.y))),
                                     fmaxf(fabsf(__uint_as_float(v.z)), fabsf(__uint_as_float(v.w)))));
    }
    const float scale = scale_for(quad_max(largest), a.unscale[half]);
#pragma unroll
    for (int s = 0; s < 2 * kPairs; ++s) {
      const uint32_t word[4] = {raw.v[s][half].x, raw.v[s][half].y, raw.v[s][half].z, raw.v[s][half].w};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float x = __uint_as_float(word[2 * i]) * scale, y = __uint_as_float(word[2 * i + 1]) * scale;
        const uint32_t high = pack_half(x, y);
        const float2 held = __half22float2(*reinterpret_cast<const __half2*>(&high));
        a.high[s][2 * i + half] = high;
        a.low[s][2 * i + half] = pack_half(x - held.x, y - held.y);
      }
    }
  }
}

__device__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// y += a R for tiles [kFirst, kFirst + kCount) of a group: independent sums, with nothing between the loads.
/// kLow: the low part of the keys too.
template <bool kLow, int kFirst, int kCount, class T, int kPairs>
__device__ void multiply_tiles(float (&y)[4 * kPairs][4], const Operand<T, kPairs>& a, const uint4* b) {
#pragma unroll
  for (int s = 0; s < kPairs; ++s)
#pragma unroll
    for (int n = kFirst; n < kFirst + kCount; ++n) {
      const uint4 r = b[32 * (n * kPairs + s)];
      mma(y[n], a.high[2 * s], r.x, r.y);
      mma(y[n], a.high[2 * s + 1], r.z, r.w);
      if constexpr (kLow) {
        mma(y[n], a.low[2 * s], r.x, r.y);
        mma(y[n], a.low[2 * s + 1], r.z, r.w);
      }
    }
}

/// The same for the n_tiles (even) tiles of a group, whose fragments are at b.
template <bool kLow, int kFirst = 0, class T, int kPairs>
__device__ void multiply(float (&y)[4 * kPairs][4], const Operand<T, kPairs>& a, const uint4* b,
                         int n_tiles) {
  if constexpr (kFirst == 0)
    if (n_tiles == 4 * kPairs) return multiply_tiles<kLow, 0, 4 * kPairs>(y, a, b + threadIdx.x % 32);
  if constexpr (kFirst < 4 * kPairs)
    if (kFirst < n_tiles) {
      multiply_tiles<kLow, kFirst, 2>(y, a, b + threadIdx.x % 32);
      multiply<kLow, kFirst + 2>(y, a, b, n_tiles);
    }
}

/// Which of the 2^(bits - 1) magnitudes: the number of thresholds below |y|. t: thresholds times the norm of
/// y; from 5 bits on they stay in shared memory and |y| is divided by the norm instead.
template <int kBits>
struct Magnitude {
  static constexpr bool kInRegisters = kBits <= 4;
  static constexpr int kCount = (1 << (kBits - 1)) - 1;
  float t[kInRegisters && kCount > 0 ? kCount : 1];
  const float* shared;
  float inverse;

  __device__ Magnitude(const float* thresholds, float r) : shared(thresholds), inverse(r > 0 ? 1 / r : 0.0f) {
    if constexpr (kInRegisters)
#pragma unroll
      for (int i = 0; i < kCount; ++i) t[i] = thresholds[i] * r;
  }
  __device__ uint32_t operator()(float y) const {
    if constexpr (kBits == 1) return 0;
    if constexpr (kBits == 2) return y > t[0];
    if constexpr (kBits == 3) {
      const bool p = y > t[1];
      return (p ? 2u : 0u) + (y > (p ? t[2] : t[0]) ? 1u : 0u);
    }
    if constexpr (kBits == 4) {
      const bool p = y > t[3], q = y > (p ? t[5] : t[1]);
      const float last = p ? (q ? t[6] : t[4]) : (q ? t[2] : t[0]);
      return (p ? 4u : 0u) + (q ? 2u : 0u) + (y > last ? 1u : 0u);
    }
    if constexpr (kBits >= 5) {
      const float u = y * inverse;
      uint32_t m = 0;
#pragma unroll
      for (uint32_t step = 1u << (kBits - 2); step > 0; step >>= 1) m += u > shared[m + step - 1] ? step : 0;
      return m;
    }
  }
};

/// Bits [32 i, 32 i + 32) of a run of codes that are all 2^(bits - 1).
template <int kBits>
__device__ constexpr uint32_t half_pattern(int i) {
  uint32_t word = 0;
  for (int b = 0; b < 32; ++b)
    if ((32 * i + b) % kBits == kBits - 1) word |= 1u << b;
  return word;
}

/// Adds n_bits bits to the staging area, whose bits there are zero.
template <int kWords>
__device__ void put_bits(uint32_t* stage, uint32_t at, const uint32_t (&word)[kWords], int n_bits) {
  const uint32_t shift = at % 32;
  uint32_t* to = stage + at / 32;
  uint32_t before = 0;
#pragma unroll
  for (int i = 0; i <= kWords; ++i) {
    const uint32_t here = i < kWords ? word[i < kWords ? i : 0] : 0;
    if (32 * i < int(shift) + n_bits) atomicOr(to + i, __funnelshift_l(before, here, shift));
    before = here;
  }
}

/// Codes of one row of a group: outputs [0, 2 n_tiles) of this lane, of which n_codes exist, into the stream
/// at bit `at` of the staging area. kPart: 0 for row lane / 4, 2 for the row 8 below.
template <int kBits, int kPart, int kTiles>
__device__ void put_codes(const float (&y)[kTiles][4], int n_tiles, int n_codes, float r,
                          const float* thresholds, uint32_t* stage, uint32_t at) {
  constexpr int kWords = (2 * kTiles * kBits + 31) / 32;
  constexpr uint32_t kMask = (1u << kBits) - 1;
  const Magnitude<kBits> magnitude(thresholds, r);
  uint32_t word[kWords] = {};
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
    if (n < n_tiles)
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        const float value = y[n][kPart + odd];
        // y > 0: 2^(bits-1) + m, else 2^(bits-1) - 1 - m: that is m, all bits flipped unless y > 0, and then
        // the top bit flipped (half_pattern). y - 1 unit is negative as an integer exactly when y <= 0 (sums
        // of products are never -0 here: they start from +0).
        const uint32_t flip = uint32_t(int(__float_as_uint(value) - 1u) >> 31) & kMask;
        const uint32_t code = magnitude(fabsf(value)) ^ flip;
        const int place = (2 * n + odd) * kBits;
        word[place / 32] |= code << (place % 32);
        if (place % 32 + kBits > 32) word[place / 32 + 1] |= code >> (32 - place % 32);
      }
  const int n_bits = n_codes * kBits;
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    const int left = n_bits - 32 * i;
    const uint32_t keep = left >= 32 ? ~0u : left <= 0 ? 0u : (1u << left) - 1;
    word[i] = (word[i] ^ half_pattern<kBits>(i)) & keep;
  }
  if (n_bits > 0) put_bits(stage, at, word, n_bits);
}

template <int kBits, int kTiles>
__device__ void put_group(const EncodeGroup& g, int bytes, const float (&y)[kTiles][4], const float (&r)[2],
                          const float* thresholds, uint32_t* stage) {
  const int lane = threadIdx.x % 32, first = lane % 4 * 2 * g.n_tiles;
  const int n_codes = min(max(g.d - first, 0), 2 * g.n_tiles);
  const uint32_t at = uint32_t(lane / 4 * bytes * 8 + g.bit_offset + first * kBits);
  put_codes<kBits, 0>(y, g.n_tiles, n_codes, r[0], thresholds, stage, at);
  put_codes<kBits, 2>(y, g.n_tiles, n_codes, r[1], thresholds, stage, at + 64u * uint32_t(bytes));
}

/// One group of the warp's tile: product, norms, codes into the staging area.
template <class T, int kPairs>
__device__ void encode_group(const EncodeGroup& g, int bytes, const Operand<T, kPairs>& a,
                             const float* thresholds, const uint4* fragments, uint32_t* stage) {
  float y[4 * kPairs][4] = {};
  multiply<sizeof(T) == 4>(y, a, fragments + g.high, g.n_tiles);
  if (g.low >= 0) multiply<false>(y, a, fragments + g.low, g.n_tiles);
  float r[2] = {};
#pragma unroll
  for (int n = 0; n < 4 * kPairs; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) r[i / 2] = fmaf(y[n][i], y[n][i], r[i / 2]);
#pragma unroll
  for (int half = 0; half < 2; ++half) r[half] = sqrtf(quad_sum(r[half]));
  const int lane = threadIdx.x % 32;
  if (lane % 4 < 2) {
    const float norm = lane % 4 == 0 ? r[0] * a.unscale[0] : r[1] * a.unscale[1];
    const uint32_t word[1] = {__half_as_ushort(__float2half_rn(fminf(norm, 65504.0f)))};
    put_bits(stage, uint32_t((lane / 4 + lane % 4 * 8) * bytes + g.norm_byte) * 8u, word, 16);
  }
  const float* t = thresholds + g.thresholds;
  switch (g.bits) {
    case 1:
      return put_group<1>(g, bytes, y, r, t, stage);
    case 2:
      return put_group<2>(g, bytes, y, r, t, stage);
    case 3:
      return put_group<3>(g, bytes, y, r, t, stage);
    case 4:
      return put_group<4>(g, bytes, y, r, t, stage);
    case 5:
      return put_group<5>(g, bytes, y, r, t, stage);
    case 6:
      return put_group<6>(g, bytes, y, r, t, stage);
    case 7:
      return put_group<7>(g, bytes, y, r, t, stage);
    case 8:
      return put_group<8>(g, bytes, y, r, t, stage);
  }
}

/// The staging area to global memory, and zero again. 16 codes are a multiple of 16 bytes.
__device__ void flush(uint32_t* stage, uint8_t* to, int n_valid, int bytes) {
  const int lane = threadIdx.x % 32;
  __syncwarp();
  uint4* from = reinterpret_cast<uint4*>(stage);
  if (n_valid == kRows && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
    for (int i = lane; i < bytes; i += 32) {
      __stcs(reinterpret_cast<uint4*>(to) + i, from[i]);
      from[i] = uint4{};
    }
  } else {
    for (int i = lane; i < n_valid * bytes; i += 32) to[i] = reinterpret_cast<const uint8_t*>(stage)[i];
    __syncwarp();
    for (int i = lane; i < bytes; i += 32) from[i] = uint4{};
  }
  __syncwarp();
}

/// Bytes of a warp's staging area; codes of one head take at most D + 16 bytes.
__host__ __device__ constexpr int stage_bytes(int code_bytes) {
  return kRows * code_bytes + 16;
}

template <class T, int kPairs>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 2 : 3)
    encode_kernel(const uint8_t* tables, int table_bytes, int largest_code, const T* keys, int64_t n_tokens,
                  int n_heads, int dim, uint8_t* codes) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint4* from = reinterpret_cast<const uint4*>(tables + int64_t(head) * table_bytes);
  for (int i = threadIdx.x; i < table_bytes / 16; i += kThreads)
    reinterpret_cast<uint4*>(shared)[i] = from[i];
  uint32_t* stage = reinterpret_cast<uint32_t*>(shared + table_bytes + warp * stage_bytes(largest_code));
  for (int i = lane; i < stage_bytes(largest_code) / 4; i += 32) stage[i] = 0;
  __syncthreads();
  const EncodeTable& table = *reinterpret_cast<const EncodeTable*>(shared);
  const float* thresholds = reinterpret_cast<const float*>(shared + table.thresholds);
  const uint4* fragments = reinterpret_cast<const uint4*>(shared + table.fragments);
  codes += n_tokens * table.bytes_before;
  keys += int64_t(head) * dim;
  const int64_t stride = int64_t(n_heads) * dim, n_tiles = (n_tokens + kRows - 1) / kRows,
                step = int64_t(gridDim.x) * kWarps;

  int64_t tile = int64_t(blockIdx.x) * kWarps + warp;
  Raw<T, kPairs> raw;
  load(raw, keys, tile, n_tokens, stride, dim);
  for (; tile < n_tiles; tile += step) {
    Operand<T, kPairs> a;
    to_operand(raw, a);
    load(raw, keys, tile + step, n_tokens, stride, dim);
    for (int i = 0; i < table.n_groups; ++i)
      encode_group<T, kPairs>(table.groups[i], table.bytes, a, thresholds, fragments, stage);
    flush(stage, codes + tile * kRows * table.bytes, int(min(int64_t(kRows), n_tokens - tile * kRows)),
          table.bytes);
  }
}

int attribute(cudaDeviceAttr what) {
  int device = 0, value = 0;
  check_cuda(cudaGetDevice(&device), "current device");
  check_cuda(cudaDeviceGetAttribute(&value, what, device), "device attribute");
  return value;
}

int64_t shared_bytes(int64_t table_bytes, int code_bytes) {
  return table_bytes + kWarps * stage_bytes(code_bytes);
}

int longest_code(const std::vector<CodeSpec>& heads) {
  size_t bytes = 0;
  for (const CodeSpec& spec : heads) bytes = std::max(bytes, spec.bytes);
  return int(bytes);
}

template <class T, int kPairs>
void launch(const uint8_t* tables, int64_t table_bytes, int code_bytes, const void* keys, int64_t n_tokens,
            int n_heads, int dim, uint8_t* codes, const Stream& stream) {
  const auto kernel = encode_kernel<T, kPairs>;
  const size_t shared = size_t(shared_bytes(table_bytes, code_bytes));
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)),
             "shared memory");
  int resident = 0;
  check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kThreads, shared), "occupancy");
  // As many blocks as run at once, shared by the heads: the table is read from L2 once per block.
  const int64_t all = int64_t(std::max(1, resident)) * attribute(cudaDevAttrMultiProcessorCount);
  const int64_t useful = (n_tokens + kRows * kWarps - 1) / (kRows * kWarps);
  const dim3 grid(unsigned(std::clamp<int64_t>(all / n_heads, 1, useful)), unsigned(n_heads));
  kernel<<<grid, kThreads, shared, raw(stream)>>>(tables, int(table_bytes), code_bytes,
                                                  static_cast<const T*>(keys), n_tokens, n_heads, dim, codes);
  check_launch("encode");
}

}  // namespace

bool Encoder::fits(const std::vector<CodeSpec>& heads, FloatType type) {
  const int dim = heads.at(0).dim;
  if (dim % 8 != 0 || dim > kMaxFastDim || heads.size() > 65535) return false;
  int64_t table_bytes = 0;
  build_encode_tables(heads, type, table_bytes);
  return shared_bytes(table_bytes, longest_code(heads)) <= attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

Encoder::Encoder(const std::vector<CodeSpec>& heads, FloatType type, const Stream& stream)
    : dim_(heads.at(0).dim), n_heads_(int(heads.size())), code_bytes_(longest_code(heads)), type_(type) {
  check(fits(heads, type), "Encoder: quantizers that do not fit");
  const std::vector<uint8_t> tables = build_encode_tables(heads, type, table_bytes_);
  tables_ = Buffer(tables.size());
  upload(tables_.as(), tables.data(), tables.size(), stream);
  stream.synchronize();  // the vector ends here
}

void Encoder::encode(const void* keys, int64_t n_tokens, uint8_t* codes, const Stream& stream) const {
  check(n_tokens >= 0 && (n_tokens == 0 || (keys && codes && aligned(keys, 16))), "Encoder: arrays");
  if (n_tokens == 0) return;
  with_type(type_, [&](auto* of_type) {
    using T = std::remove_pointer_t<decltype(of_type)>;
    const auto go = [&](auto kernel) {
      kernel(tables_.as<uint8_t>(), table_bytes_, code_bytes_, keys, n_tokens, n_heads_, dim_, codes, stream);
    };
    if (dim_ <= 64)
      go(launch<T, 2>);
    else if (dim_ <= 96)
      go(launch<T, 3>);
    else
      go(launch<T, 4>);
  });
}

}  // namespace blockgtq::cuda
