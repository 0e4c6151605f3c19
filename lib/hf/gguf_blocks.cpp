// Dequantizes GGUF's blocks. Layouts: ggml-common.h of llama.cpp. The order of operations is that of the
// `gguf`
// Python package. A scale (fp16) times its integers is exact in float32, so every number is rounded only
// once, where
// an offset is added.
#include "hf/gguf_blocks.h"

#include <array>
#include <cstring>

#include "base/error.h"
#include "base/float16.h"
#include "base/float8.h"

namespace blockgtq {

namespace {

using Bytes = const uint8_t*;

constexpr std::array<int8_t, 16> kNonLinear = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
/// Integers, so that there is no -0.
constexpr std::array<int8_t, 16> kE2m1Doubled = [] {
  std::array<int8_t, 16> doubled = {};
  for (size_t q = 0; q < doubled.size(); ++q) doubled[q] = int8_t(2 * from_e2m1(uint8_t(q)));
  return doubled;
}();

float half_at(Bytes at) {
  return from_half(uint16_t(at[0] | at[1] << 8));
}

uint32_t word_at(Bytes at) {
  return uint32_t(at[0]) | uint32_t(at[1]) << 8 | uint32_t(at[2]) << 16 | uint32_t(at[3]) << 24;
}

/// 32 numbers from 16 bytes, the low nibbles first, then the high ones: value(nibble, index).
template <class Value>
void nibbles(Bytes q, float* out, const Value& value) {
  for (int i = 0; i < 16; ++i) out[i] = value(q[i] & 15, i);
  for (int i = 0; i < 16; ++i) out[16 + i] = value(q[i] >> 4, 16 + i);
}

void q8_0(Bytes b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 32; ++i) out[i] = d * float(int8_t(b[2 + i]));
}

void q4_0(Bytes b, float* out) {
  const float d = half_at(b);
  nibbles(b + 2, out, [&](int q, int) { return d * float(q - 8); });
}

void q4_1(Bytes b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  nibbles(b + 4, out, [&](int q, int) { return d * float(q) + m; });
}

void q5_0(Bytes b, float* out) {
  const float d = half_at(b);
  const uint32_t high = word_at(b + 2);
  nibbles(b + 6, out, [&](int q, int i) { return d * float((q | int(high >> i & 1) << 4) - 16); });
}

void q5_1(Bytes b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  const uint32_t high = word_at(b + 4);
  nibbles(b + 8, out, [&](int q, int i) { return d * float(q | int(high >> i & 1) << 4) + m; });
}

void q2_k(Bytes b, float* out) {
  const Bytes scales = b, q = b + 16;
  const float d = half_at(b + 80), m = half_at(b + 82);
  for (int part = 0; part < 16; ++part) {
    const int shift = part / 2 % 4 * 2, at = part / 8 * 32 + part % 2 * 16;
    const float scale = d * float(scales[part] & 15), offset = m * float(scales[part] >> 4);
    for (int i = 0; i < 16; ++i) out[part * 16 + i] = scale * float(q[at + i] >> shift & 3) - offset;
  }
}

void q3_k(Bytes b, float* out) {
  const Bytes high = b, q = b + 32, packed = b + 96;
  const float d = half_at(b + 108);
  for (int part = 0; part < 16; ++part) {
    const int low4 = packed[part % 8] >> part / 8 * 4 & 15, high2 = packed[8 + part % 4] >> part / 4 * 2 & 3;
    const float scale = d * float((low4 | high2 << 4) - 32);
    const int shift = part / 2 % 4 * 2, at = part / 8 * 32 + part % 2 * 16;
    for (int i = 0; i < 16; ++i) {
      const int bit = high[part % 2 * 16 + i] >> part / 2 & 1;
      out[part * 16 + i] = scale * float((q[at + i] >> shift & 3) - (bit ? 0 : 4));
    }
  }
}

/// Scale and offset of sub-block i of 8, six bits each. Those of the last four have their upper two bits in
/// the bytes of the first four.
struct SixBits {
  int scale, offset;
};
SixBits six_bits(Bytes packed, int i) {
  if (i < 4) return {packed[i] & 63, packed[4 + i] & 63};
  return {(packed[4 + i] & 15) | (packed[i - 4] >> 6) << 4, packed[4 + i] >> 4 | (packed[i] >> 6) << 4};
}

void q4_k(Bytes b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  for (int part = 0; part < 8; ++part) {
    const SixBits s = six_bits(b + 4, part);
    const float scale = d * float(s.scale), offset = m * float(s.offset);
    const Bytes q = b + 16 + part / 2 * 32;
    const int shift = part % 2 * 4;
    for (int i = 0; i < 32; ++i) out[part * 32 + i] = scale * float(q[i] >> shift & 15) - offset;
  }
}

void q5_k(Bytes b, float* out) {
  const float d = half_at(b), m = half_at(b + 2);
  const Bytes high = b + 16;
  for (int part = 0; part < 8; ++part) {
    const SixBits s = six_bits(b + 4, part);
    const float scale = d * float(s.scale), offset = m * float(s.offset);
    const Bytes q = b + 48 + part / 2 * 32;
    const int shift = part % 2 * 4;
    for (int i = 0; i < 32; ++i)
      out[part * 32 + i] = scale * float((q[i] >> shift & 15) | (high[i] >> part & 1) << 4) - offset;
  }
}

void q6_k(Bytes b, float* out) {
  const Bytes low = b, high = b + 128, scales = b + 192;
  const float d = half_at(b + 208);
  for (int part = 0; part < 8; ++part) {
    const Bytes q = low + part / 4 * 64 + part % 2 * 32, h = high + part / 4 * 32;
    const int low_shift = part % 4 / 2 * 4, high_shift = part % 4 * 2;
    for (int half = 0; half < 2; ++half) {
      const float scale = d * float(int8_t(scales[part * 2 + half]));
      for (int i = half * 16; i < half * 16 + 16; ++i)
        out[part * 32 + i] = scale * float(((q[i] >> low_shift & 15) | (h[i] >> high_shift & 3) << 4) - 32);
    }
  }
}

void iq4_nl(Bytes b, float* out) {
  const float d = half_at(b);
  nibbles(b + 2, out, [&](int q, int) { return d * float(kNonLinear[size_t(q)]); });
}

void iq4_xs(Bytes b, float* out) {
  const float d = half_at(b);
  const int high = b[2] | b[3] << 8;
  for (int part = 0; part < 8; ++part) {
    const int low4 = b[4 + part / 2] >> part % 2 * 4 & 15, high2 = high >> 2 * part & 3;
    const float scale = d * float((low4 | high2 << 4) - 32);
    nibbles(b + 8 + part * 16, out + part * 32,
            [&](int q, int) { return scale * float(kNonLinear[size_t(q)]); });
  }
}

void mxfp4(Bytes b, float* out) {
  // Half the scale, because the numbers are doubled. Its 255 is 2^128, where E8M0 has NaN.
  const float half = b[0] == 0xff ? 0x1p127f : 0.5f * from_e8m0(b[0]);
  nibbles(b + 1, out, [&](int q, int) { return half * float(kE2m1Doubled[size_t(q)]); });
}

using Unpack = void (*)(Bytes, float*);

Unpack unpack_of(DType dtype) {
  switch (dtype) {
    case DType::q8_0:
      return q8_0;
    case DType::q4_0:
      return q4_0;
    case DType::q4_1:
      return q4_1;
    case DType::q5_0:
      return q5_0;
    case DType::q5_1:
      return q5_1;
    case DType::q2_k:
      return q2_k;
    case DType::q3_k:
      return q3_k;
    case DType::q4_k:
      return q4_k;
    case DType::q5_k:
      return q5_k;
    case DType::q6_k:
      return q6_k;
    case DType::iq4_nl:
      return iq4_nl;
    case DType::iq4_xs:
      return iq4_xs;
    case DType::mxfp4:
      return mxfp4;
    default:
      check(false, "dequantize: not a quantized type");
      return nullptr;
  }
}

}  // namespace

void dequantize(DType dtype, const std::byte* blocks, int64_t n_blocks, float* out) {
  const Unpack unpack = unpack_of(dtype);
  const BlockSize size = block_size(dtype);
  for (int64_t i = 0; i < n_blocks; ++i)
    unpack(reinterpret_cast<Bytes>(blocks + i * size.bytes), out + i * size.elements);
}

}  // namespace blockgtq
