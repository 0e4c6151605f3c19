// The rows that the encoder reads: which positions a page has new, their way into registers. Part of
// packed_encode.cu.
#pragma once
#include "kernels/cache/packed_codes.cuh"

namespace blockgtq::cuda {

struct EncodeArguments {
  PackedLayer layer;
  EncodeLayer encoder;
  PageTable cache;
  uint8_t* pages;
  const int32_t* starts;
  const void* x[2];  // keys, values
  int tokens;
  bool bf16;
  int pages_each, n_pages;  // pages a sequence may touch; of all sequences
  int side;                 // of blockIdx.z = 0
};

/// A page's part of a sequence.
struct alignas(16) Piece {
  int sequence, page;
  int from, to;       // positions of the page that are new
  int64_t first_row;  // of x, that of the page's position 0 and KV head 0, had it been there
  __device__ bool whole() const { return from <= 0 && to >= kPagePositions; }
};
__device__ inline int sequence_of(const EncodeArguments& a, int index) {
  return a.n_pages == a.pages_each ? 0 : index / a.pages_each;
}
/// start: of the sequence of page `index`.
__device__ inline Piece piece_of(const EncodeArguments& a, int index, int start) {
  Piece p;
  p.sequence = sequence_of(a, index);
  p.page = start / kPagePositions + index - p.sequence * a.pages_each;
  const int before = p.page * kPagePositions - start;  // new positions before this page
  p.from = max(-before, 0);
  p.to = min(a.tokens - before, kPagePositions);
  p.first_row = (int64_t(p.sequence) * a.tokens + before) * a.layer.n_kv_heads;
  return p;
}

/// Two coordinates to float32.
__device__ inline float2 to_float2(uint32_t x, bool bf16) {
  return bf16 ? make_float2(__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u))
              : __half22float2(as_half2(x));
}

/// The coordinate at depth k of a step is 32 (step / 2) + 8 c + 4 (step % 2) + 2 (k / 8) + k % 2 with c = k %
/// 8 / 2: a lane's elements of two steps are 16 contiguous bytes. Rows outside the piece are zero.
template <int kDim, int kSteps>
__device__ __forceinline__ void load_rows(const EncodeArguments& a, const Piece& p, int tile, int side,
                                          int head, Rows<kSteps>& x) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const auto load = [&](auto whole) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = 16 * tile + 8 * half + r;
      const uint16_t* row = static_cast<const uint16_t*>(a.x[side]) +
                            (p.first_row + position * a.layer.n_kv_heads + head) * kDim + 8 * c;
#pragma unroll
      for (int s = 0; s < kSteps; s += 2) {
        uint4 v{};
        if ((whole || (position >= p.from && position < p.to)) && (kDim % 32 == 0 || 16 * s + 8 * c < kDim))
          v = __ldcs(reinterpret_cast<const uint4*>(row + 16 * s));
        x[s][half] = v.x, x[s][2 + half] = v.y;
        x[s + 1][half] = v.z, x[s + 1][2 + half] = v.w;
      }
    }
  };
  if (p.whole())
    load(std::true_type());
  else
    load(std::false_type());
}

/// Asks for the rows that load_rows() will want.
template <int kDim>
__device__ inline void fetch_rows(const EncodeArguments& a, const Piece& p, int tile, int n_tiles, int side,
                                  int head) {
  const int lane = threadIdx.x % 32, position = 16 * tile + lane;
  if (lane >= 16 * n_tiles || position < p.from || position >= p.to) return;
  const char* row =
      static_cast<const char*>(a.x[side]) + (p.first_row + position * a.layer.n_kv_heads + head) * (2 * kDim);
#pragma unroll
  for (int at = 0; at < 2 * kDim; at += 128) fetch_line(row + at);
}

/// bf16 to fp16, and the mean off.
template <int kDim, int kSteps>
__device__ __forceinline__ void convert_rows(const EncodeArguments& a, const Piece& p, int tile, int side,
                                             int head, Rows<kSteps>& x) {
  const bool centred = side == 0 ? a.encoder.key_mean != nullptr : a.encoder.value_mean != nullptr;
  if (!a.bf16 && !centred) return;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
#pragma unroll
  for (int s = 0; s < kSteps; ++s)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int position = 16 * tile + 8 * (j % 2) + r, d = 32 * (s / 2) + 8 * c + 4 * (s % 2) + 2 * (j / 2);
      float2 y = to_float2(x[s][j], a.bf16);
      if (centred && position >= p.from && position < p.to && (kDim % 32 == 0 || d < kDim)) {
        if (side == 1) {
          const float2 mean = *reinterpret_cast<const float2*>(a.encoder.value_mean + head * kDim + d);
          y.x -= mean.x, y.y -= mean.y;
        } else {
          const float* of_row = a.encoder.key_mean + (int64_t(head) * kPagePositions + position) * kDim;
          const float2* angles =
              reinterpret_cast<const float2*>(a.layer.page_angles) + int64_t(p.page) * (kDim / 2);
          const MeanCoordinate m = a.encoder.coordinates[d], n = a.encoder.coordinates[d + 1];
          const float2 turn_m = angles[m.block], turn_n = angles[n.block];
          y.x -= of_row[d] * turn_m.x + m.sign * of_row[m.other] * turn_m.y;
          y.y -= of_row[d + 1] * turn_n.x + n.sign * of_row[n.other] * turn_n.y;
        }
      }
      x[s][j] = pack2(fminf(fmaxf(y.x, -65504.0f), 65504.0f), fminf(fmaxf(y.y, -65504.0f), 65504.0f));
    }
}

}  // namespace blockgtq::cuda
