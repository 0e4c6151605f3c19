// The rows that the encoder reads: which positions of a page are new, and their way into registers. Part of
// packed_encode.cu.
#pragma once
#include "cache/page_layout.h"
#include "kernels/cache/packed_codes.cuh"
#include "kernels/device/float_type.cuh"

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
  int pages_each, n_pages;  // pages that a sequence may touch; of all sequences
  int side;                 // keys (0) or values (1) at blockIdx.z = 0
};

/// The new positions that a sequence has in one page.
struct alignas(16) Piece {
  int sequence, page;
  int from, to;           // [from, to) of the page's positions are new
  int64_t first_row;      // the row of x that the page's position 0 and KV head 0 would have
  uint32_t keep_mean[2];  // what convert_rows() returned for the tiles that are being encoded
  __device__ bool whole() const { return from <= 0 && to >= kPagePositions; }
};
__device__ inline int sequence_of(const EncodeArguments& a, int index) {
  return a.n_pages == a.pages_each ? 0 : index / a.pages_each;
}
/// The piece of page `index`. start: where the new positions of its sequence begin.
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

/// A row of x from the lane's first element on, if there is one, in the order of load_rows().
template <int kDim>
__device__ inline const uint16_t* row_of(const EncodeArguments& a, const Piece& p, int position, int side,
                                         int head) {
  return static_cast<const uint16_t*>(a.x[side]) +
         (p.first_row + position * a.layer.n_kv_heads + head) * kDim + 8 * (threadIdx.x % 4);
}

/// Loads a tile. Depth k of a step is coordinate 32 (step / 2) + 8 c + 4 (step % 2) + 2 (k / 8) + k % 2
/// with c = k % 8 / 2, so that a lane's elements of two steps are 16 contiguous bytes. Rows outside the
/// piece are zero.
template <int kDim, int kSteps>
__device__ __forceinline__ void load_rows(const EncodeArguments& a, const Piece& p, int tile, int side,
                                          int head, Rows<kSteps>& x) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const auto load = [&](auto whole) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = 16 * tile + 8 * half + r;
      const uint16_t* row = row_of<kDim>(a, p, position, side, head);
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

/// Prefetches the rows that load_rows() will want.
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

__device__ inline uint32_t pack_halves(float2 y) {
  return pack2(fminf(fmaxf(y.x, -65504.0f), 65504.0f), fminf(fmaxf(y.y, -65504.0f), 65504.0f));
}

/// The mean at coordinates d and d + 1 of a position.
__device__ inline float2 mean_at(const EncodeArguments& a, const Piece& p, int position, int side, int head,
                                 int dim, int d) {
  if (side == 1) return *reinterpret_cast<const float2*>(a.encoder.value_mean + head * dim + d);
  const float* row = a.encoder.key_mean + (int64_t(head) * kPagePositions + position) * dim;
  const float2* angles = reinterpret_cast<const float2*>(a.layer.page_angles) + int64_t(p.page) * (dim / 2);
  const MeanCoordinate m = a.encoder.coordinates[d], n = a.encoder.coordinates[d + 1];
  const float2 turn_m = angles[m.block], turn_n = angles[n.block];
  return {row[d] * turn_m.x + m.sign * row[m.other] * turn_m.y,
          row[d + 1] * turn_n.x + n.sign * row[n.other] * turn_n.y};
}

/// Converts bf16 to fp16 and subtracts the mean, except from rows that keep it. These are few, and are read
/// again. Returns them as bits 4 r + i, which are row r for even i and row 8 + r for odd i.
template <int kDim, int kSteps>
__device__ __forceinline__ uint32_t convert_rows(const EncodeArguments& a, const Piece& p, int tile, int side,
                                                 int head, Rows<kSteps>& x) {
  const MeanRules& rules = side == 0 ? a.layer.key_rules : a.layer.value_rules;
  const bool centred = rules.weights != nullptr;
  if (!centred) {  // in a loop of its own: one token's encoding mostly waits for instructions
#pragma unroll
    for (int s = 0; s < kSteps; ++s)
#pragma unroll
      for (int j = 0; j < 4; ++j) x[s][j] = to_halves(x[s][j], a.bf16);
    return 0;
  }
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  float pull[2] = {};  // weighted dot products with the mean, of positions r and 8 + r
#pragma unroll
  for (int s = 0; s < kSteps; ++s)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int position = 16 * tile + 8 * (j % 2) + r, d = 32 * (s / 2) + 8 * c + 4 * (s % 2) + 2 * (j / 2);
      float2 y = to_float2(x[s][j], a.bf16);
      if (centred && position >= p.from && position < p.to && (kDim % 32 == 0 || d < kDim)) {
        const float2 mean = mean_at(a, p, position, side, head, kDim, d);
        float2 weight = *reinterpret_cast<const float2*>(rules.weights + head * kDim + d);
        if (side == 0) weight.x *= mean.x, weight.y *= mean.y;
        pull[j % 2] = fmaf(weight.x, y.x, fmaf(weight.y, y.y, pull[j % 2]));
        y.x -= mean.x, y.y -= mean.y;
      }
      x[s][j] = pack_halves(y);
    }
  const float limit = rules.limits[head];
  bool keeps[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int position = 16 * tile + 8 * half + r;
#pragma unroll
    for (int apart = 1; apart < 4; apart *= 2) pull[half] += __shfl_xor_sync(kAll, pull[half], apart);
    keeps[half] = pull[half] < limit && position >= p.from && position < p.to;
    if (!keeps[half]) continue;
    const uint16_t* row = row_of<kDim>(a, p, position, side, head);
#pragma unroll
    for (int s = 0; s < kSteps; s += 2) {
      if (kDim % 32 != 0 && 16 * s + 8 * c >= kDim) continue;
      const uint4 v = *reinterpret_cast<const uint4*>(row + 16 * s);
      x[s][half] = pack_halves(to_float2(v.x, a.bf16)), x[s][2 + half] = pack_halves(to_float2(v.y, a.bf16));
      x[s + 1][half] = pack_halves(to_float2(v.z, a.bf16)),
            x[s + 1][2 + half] = pack_halves(to_float2(v.w, a.bf16));
    }
  }
  return __ballot_sync(kAll, c % 2 ? keeps[1] : keeps[0]);
}

/// The same for values with centres, whose numbers are in the page, as are the signs of those that keep
/// theirs.
template <int kDim, int kSteps>
__device__ __forceinline__ uint32_t subtract_centres(const EncodeArguments& a, const Piece& p, int tile,
                                                     int head, const PackedTable& table, Rows<kSteps>& x) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const int id = a.cache.block_table[p.sequence * a.cache.stride + p.page];
  const uint8_t* const block = a.pages + id * a.layer.page_bytes + table.block_offset;
  bool keeps[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int position = 16 * tile + 8 * half + r;
    const bool there = position >= p.from && position < p.to;
    const int number = there ? block[table.value_centres + centre_place(position)] : 0;
    keeps[half] =
        there && reinterpret_cast<const int16_t*>(block + table.value_norms)[norm_place(position)] < 0;
    const float* const centre = a.layer.centres.rows + (int64_t(head) * a.layer.centres.n + number) * kDim;
#pragma unroll
    for (int s = 0; s < kSteps; ++s)
#pragma unroll
      for (int j = half; j < 4; j += 2) {
        const int d = 32 * (s / 2) + 8 * c + 4 * (s % 2) + 2 * (j / 2);
        float2 y = to_float2(x[s][j], a.bf16);
        if (there && !keeps[half] && (kDim % 32 == 0 || d < kDim)) {
          const float2 m = *reinterpret_cast<const float2*>(centre + d);
          y.x -= m.x, y.y -= m.y;
        }
        x[s][j] = pack_halves(y);
      }
  }
  return __ballot_sync(kAll, c % 2 ? keeps[1] : keeps[0]);
}

}  // namespace blockgtq::cuda
