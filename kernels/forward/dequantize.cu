// out[i] = number i of GGUF's quantized blocks. ggml-common.h of llama.cpp has the layouts.
//
// There is one thread per number, and neighbouring threads have neighbouring numbers: a warp's 32 numbers lie
// in one block and share its scales through the caches. The product of a scale and the integers that go with
// it is exact in float32 (hf/gguf_blocks.cpp says why), so that a fused multiply-add rounds as the CPU does.
// Bytes moved, which is the bound: the blocks and the numbers.
#include <algorithm>

#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/forward/dequantize.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = 1 << 20;

using Bytes = const uint8_t*;

__device__ float half_at(Bytes at) {
  return __half2float(__ushort_as_half(uint16_t(at[0] | at[1] << 8)));
}
__device__ int low_or_high(uint8_t byte, bool high) {
  return high ? byte >> 4 : byte & 15;
}
/// Nibble i of 32 in 16 bytes. The low halves of all bytes come first.
__device__ int nibble(Bytes q, int i) {
  return low_or_high(q[i & 15], i >= 16);
}
/// Bit i of 32.
__device__ int bit(Bytes bits, int i) {
  return bits[i >> 3] >> (i & 7) & 1;
}

__constant__ int8_t kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
__constant__ int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

struct Q8_0 {
  static constexpr int kNumbers = 32, kBytes = 34;
  static __device__ float at(Bytes b, int i) { return half_at(b) * float(int8_t(b[2 + i])); }
};
struct Q4_0 {
  static constexpr int kNumbers = 32, kBytes = 18;
  static __device__ float at(Bytes b, int i) { return half_at(b) * float(nibble(b + 2, i) - 8); }
};
struct Q4_1 {
  static constexpr int kNumbers = 32, kBytes = 20;
  static __device__ float at(Bytes b, int i) { return half_at(b) * float(nibble(b + 4, i)) + half_at(b + 2); }
};
struct Q5_0 {
  static constexpr int kNumbers = 32, kBytes = 22;
  static __device__ float at(Bytes b, int i) {
    return half_at(b) * float((nibble(b + 6, i) | bit(b + 2, i) << 4) - 16);
  }
};
struct Q5_1 {
  static constexpr int kNumbers = 32, kBytes = 24;
  static __device__ float at(Bytes b, int i) {
    return half_at(b) * float(nibble(b + 8, i) | bit(b + 4, i) << 4) + half_at(b + 2);
  }
};
struct Q2K {
  static constexpr int kNumbers = 256, kBytes = 84;
  static __device__ float at(Bytes b, int i) {
    const uint8_t scales = b[i >> 4];
    const int q = b[16 + (i >> 7) * 32 + (i & 31)] >> (i >> 5 & 3) * 2 & 3;
    return half_at(b + 80) * float(scales & 15) * float(q) - half_at(b + 82) * float(scales >> 4);
  }
};
struct Q3K {
  static constexpr int kNumbers = 256, kBytes = 110;
  static __device__ float at(Bytes b, int i) {
    const int part = i >> 4;
    const Bytes packed = b + 96;
    const int low4 = low_or_high(packed[part & 7], part >= 8),
              high2 = packed[8 + (part & 3)] >> (part >> 2) * 2 & 3;
    const int q = b[32 + (i >> 7) * 32 + (i & 31)] >> (i >> 5 & 3) * 2 & 3;
    const int high = b[i & 31] >> (i >> 5) & 1;
    return half_at(b + 108) * float((low4 | high2 << 4) - 32) * float(q - (high ? 0 : 4));
  }
};
/// Scale and offset of sub-block `part` of 8, six bits each, times their fp16 factors.
__device__ float2 six_bits(Bytes b, int part) {
  const Bytes packed = b + 4;
  int scale, offset;
  if (part < 4) {
    scale = packed[part] & 63;
    offset = packed[4 + part] & 63;
  } else {
    scale = (packed[4 + part] & 15) | packed[part - 4] >> 6 << 4;
    offset = packed[4 + part] >> 4 | packed[part] >> 6 << 4;
  }
  return {half_at(b) * float(scale), half_at(b + 2) * float(offset)};
}
struct Q4K {
  static constexpr int kNumbers = 256, kBytes = 144;
  static __device__ float at(Bytes b, int i) {
    const float2 s = six_bits(b, i >> 5);
    return s.x * float(low_or_high(b[16 + (i >> 6) * 32 + (i & 31)], i & 32)) - s.y;
  }
};
struct Q5K {
  static constexpr int kNumbers = 256, kBytes = 176;
  static __device__ float at(Bytes b, int i) {
    const float2 s = six_bits(b, i >> 5);
    const int high = b[16 + (i & 31)] >> (i >> 5) & 1;
    return s.x * float(low_or_high(b[48 + (i >> 6) * 32 + (i & 31)], i & 32) | high << 4) - s.y;
  }
};
struct Q6K {
  static constexpr int kNumbers = 256, kBytes = 210;
  static __device__ float at(Bytes b, int i) {
    const int low = low_or_high(b[(i >> 7) * 64 + (i & 63)], i & 64);
    const int high = b[128 + (i >> 7) * 32 + (i & 31)] >> (i >> 5 & 3) * 2 & 3;
    return half_at(b + 208) * float(int8_t(b[192 + (i >> 4)])) * float((low | high << 4) - 32);
  }
};
struct IQ4NL {
  static constexpr int kNumbers = 32, kBytes = 18;
  static __device__ float at(Bytes b, int i) { return half_at(b) * float(kNonLinear[nibble(b + 2, i)]); }
};
struct IQ4XS {
  static constexpr int kNumbers = 256, kBytes = 136;
  static __device__ float at(Bytes b, int i) {
    const int part = i >> 5, high2 = (b[2] | b[3] << 8) >> 2 * part & 3;
    const int scale = (low_or_high(b[4 + part / 2], part & 1) | high2 << 4) - 32;
    return half_at(b) * float(scale) * float(kNonLinear[nibble(b + 8 + part * 16, i & 31)]);
  }
};
struct MXFP4 {
  static constexpr int kNumbers = 32, kBytes = 17;
  static __device__ float at(Bytes b, int i) {
    // A power of two, halved because the table is doubled. Exponents 0 and 1 give subnormal numbers.
    const float d = __uint_as_float(b[0] < 2 ? 0x00200000u << b[0] : uint32_t(b[0] - 1) << 23);
    return d * float(kE2m1Doubled[nibble(b + 1, i)]);
  }
};

template <class Block, class To>
__global__ void dequantize_kernel(Bytes blocks, int64_t n, To* out) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    store(out + i, Block::at(blocks + i / Block::kNumbers * Block::kBytes, int(i % Block::kNumbers)));
}

template <class Block>
void launch(Bytes blocks, int64_t n_blocks, void* out, FloatType to, const Stream& stream) {
  const int64_t n = n_blocks * Block::kNumbers;
  const int grid = int(std::min(kMaxBlocks, (n + kThreads - 1) / kThreads));
  with_type(to, [&](auto* type) {
    using To = std::remove_pointer_t<decltype(type)>;
    dequantize_kernel<Block><<<grid, kThreads, 0, raw(stream)>>>(blocks, n, static_cast<To*>(out));
  });
  check_launch("dequantize");
}

}  // namespace

void dequantize(BlockType type, const void* blocks, int64_t n_blocks, void* out, FloatType to,
                const Stream& stream) {
  check(n_blocks >= 0 && (n_blocks == 0 || (blocks && out)), "dequantize: arguments");
  if (n_blocks == 0) return;
  const auto run = [&](auto block) {
    launch<decltype(block)>(static_cast<Bytes>(blocks), n_blocks, out, to, stream);
  };
  switch (type) {
    case BlockType::q8_0:
      return run(Q8_0{});
    case BlockType::q4_0:
      return run(Q4_0{});
    case BlockType::q4_1:
      return run(Q4_1{});
    case BlockType::q5_0:
      return run(Q5_0{});
    case BlockType::q5_1:
      return run(Q5_1{});
    case BlockType::q2_k:
      return run(Q2K{});
    case BlockType::q3_k:
      return run(Q3K{});
    case BlockType::q4_k:
      return run(Q4K{});
    case BlockType::q5_k:
      return run(Q5K{});
    case BlockType::q6_k:
      return run(Q6K{});
    case BlockType::iq4_nl:
      return run(IQ4NL{});
    case BlockType::iq4_xs:
      return run(IQ4XS{});
    case BlockType::mxfp4:
      return run(MXFP4{});
  }
}

}  // namespace blockgtq::cuda
