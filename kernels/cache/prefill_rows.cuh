// Rows of queries and their online softmax, as a warp holds 16 of them: lane 4 r + c has rows r and 8 + r
// (h = 0, 1), and columns 8 n + 2 c + e of scores and of outputs are at 4 n + 2 h + e. Part of
// prefill_wgmma.cu and prefill_mma.cu.
#pragma once
#include <climits>

#include "kernels/cache/prefill_pass.cuh"
#include "kernels/cache/unpack.cuh"

namespace blockgtq::cuda {

// Weights are fp16 in the second product. The largest possible is 2^15, so that a weight of 2^-29 of it has
// all its digits, and one of 2^-39 still counts.
constexpr float kHeadroom = 15;

/// The work of a block of rows, in steps of kTiles tiles: those of the prefix and then those of the chunk,
/// from the first one that its window reaches. This split has [first, last) of them.
template <int kTiles>
struct Steps {
  int of_prefix, first, last;
  __device__ Steps(const PrefillPass& a, const Prefix& prefix, int first_row, int last_row, int split) {
    constexpr int kPositions = kTiles * kPagePositions;
    const int tiles = min(max(prefix.tiles() - a.first_tile, 0), a.room);
    of_prefix = (tiles + kTiles - 1) / kTiles;
    const int last_token = min(last_row / a.group, a.tokens - 1);
    const int end = of_prefix + (a.last ? last_token / kPositions + 1 : 0);
    int begin = 0;
    if (a.window > 0) {
      const int of_chunk = first_row / a.group - a.window + 1;  // the first token that any row sees
      begin = min(max(prefix.first_tile(prefix.end() + of_chunk) - a.first_tile, 0) / kTiles, of_prefix);
      if (begin == of_prefix) begin = min(of_prefix + max(of_chunk, 0) / kPositions, end);
    }
    first = begin + int(int64_t(end - begin) * split / a.splits);
    last = begin + int(int64_t(end - begin) * (split + 1) / a.splits);
  }
};

/// Tile i of a step. head: of (sequence, KV head).
template <int kTiles>
__device__ inline const uint8_t* tile_at(const PrefillPass& a, int64_t head, const Steps<kTiles>& steps,
                                         int step, int i, int bytes) {
  return step < steps.of_prefix
             ? a.prefix + (head * a.room + step * kTiles + i) * bytes
             : a.chunk + (head * a.chunk_tiles + (step - steps.of_prefix) * kTiles + i) * bytes;
}

/// Tokens of the rows that decide together whether a step is whole: the first, the last, and the lane's two.
struct RowTokens {
  int first, last, own[2];
};

/// How many positions of a step's tiles rows see, and with a window (kRuled) from which on.
template <int kTiles, bool kRuled>
struct Seen {
  int of_tile[kTiles][2], from[kRuled ? kTiles : 1][2];
  bool whole;  // all rows see all positions
  __device__ Seen(const PrefillPass& a, const Prefix& prefix, const Steps<kTiles>& steps, int step,
                  const RowTokens& token) {
    whole = true;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      int base = 0;  // position of the tile, counted from the chunk's first token
      if (step < steps.of_prefix) {
        const int tile = a.first_tile + step * kTiles + i;
        of_tile[i][0] = of_tile[i][1] = prefix.valid(tile);
        whole &= of_tile[i][0] == kPagePositions;
        if constexpr (kRuled) base = prefix.position(tile) - prefix.end();
      } else {
        base = ((step - steps.of_prefix) * kTiles + i) * kPagePositions;
        whole &= token.first >= base + kPagePositions - 1;
#pragma unroll
        for (int h = 0; h < 2; ++h) of_tile[i][h] = token.own[h] + 1 - base;
      }
      if constexpr (kRuled) {
        const int back = a.window > 0 ? a.window - 1 + base : INT_MAX;
        whole &= token.last <= back;
#pragma unroll
        for (int h = 0; h < 2; ++h) from[i][h] = token.own[h] - back;
      }
    }
  }
};

/// Masks the scores of positions that rows do not see.
template <int kTiles, bool kRuled>
__device__ __forceinline__ void hide(float (&s)[32 * kTiles], const Seen<kTiles, kRuled>& seen) {
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 32 * kTiles; ++i) {
    const int position = 8 * (i / 4 % 8) + 2 * c + i % 2, tile = i / 32, h = i / 2 % 2;
    bool hidden = position >= seen.of_tile[tile][h];
    if constexpr (kRuled) hidden |= position < seen.from[tile][h];
    if (hidden) s[i] = -INFINITY;
  }
}

/// s = tanh(s inner / (2 log2(e))): a capped score as a part of the cap.
template <int kCount>
__device__ __forceinline__ void cap(float (&s)[kCount], float inner) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) s[i] = 1 - __fdividef(2, 1 + exp2_fast(s[i] * inner));
}

/// The weight of a head's sink, beside weights whose maximum in powers of two is `most`.
__device__ inline float sink_weight(const PrefillPass& a, int head, float most) {
  return a.sinks ? exp2_fast(a.sinks[head] * kLog2e - most) : 0.0f;
}

/// The maximum in powers of two and the sum of weights. The sum is this lane's part; that of the row is the
/// sum of four lanes.
struct RowWeights {
  float most[2] = {-1e30f, -1e30f}, sum[2] = {};
};
__device__ inline float over_row(float x) {
  x += __shfl_xor_sync(kAll, x, 1);
  return x + __shfl_xor_sync(kAll, x, 2);
}

/// Turns scores into weights. shrink: the factor for everything before them. factor: from scores to
/// powers of two.
template <int kCount>
__device__ __forceinline__ void weigh(float (&s)[kCount], float factor, RowWeights& w, float (&shrink)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most = -INFINITY;
#pragma unroll
    for (int i = 2 * h; i < kCount; i += 4) most = fmaxf(most, fmaxf(s[i], s[i + 1]));
    most = fmaxf(most, __shfl_xor_sync(kAll, most, 1));
    most = fmaxf(most, __shfl_xor_sync(kAll, most, 2));
    const float now = fmaxf(w.most[h], fmaf(most, factor, -kHeadroom));
    shrink[h] = exp2_fast(w.most[h] - now);
    w.most[h] = now;
    float sum = 0;
#pragma unroll
    for (int i = 2 * h; i < kCount; i += 4)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        s[i + e] = exp2_fast(fmaf(s[i + e], factor, -now));
        sum += s[i + e];
      }
    w.sum[h] = fmaf(w.sum[h], shrink[h], sum);
  }
}

template <int kCount>
__device__ __forceinline__ void shrink_rows(float (&o)[kCount], const float (&shrink)[2]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) o[i] *= shrink[i / 2 % 2];
}

/// Weights as A fragments, of 16 positions after each other.
template <int kCount>
__device__ __forceinline__ void pack_weights(const float (&s)[kCount], uint32_t (&p)[kCount / 2]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) p[i] = pack2(s[2 * i], s[2 * i + 1]);
}

/// The index of a row among what is kept between pieces, or added up.
__device__ inline int64_t kept_at(const PrefillPass& a, int64_t head, int split, int row) {
  return (split * int64_t(a.batch) * a.n_kv_heads + head) * a.rows + row;
}

/// Loads columns [first, first + kCount / 2) of a lane's rows. row: the first of the warp's 16.
template <int kDim, int kCount>
__device__ __forceinline__ void load_rows(const PrefillPass& a, int64_t head, int split, int row, int first,
                                          float (&o)[kCount]) {
  const int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float* from = a.sums + kept_at(a, head, split, row + 8 * h + r) * kDim + first + 2 * c;
#pragma unroll
    for (int i = 2 * h; i < kCount; i += 4) {
      const float2 x = *reinterpret_cast<const float2*>(from + 2 * (i - 2 * h));
      o[i] = x.x, o[i + 1] = x.y;
    }
  }
}
/// Stores these columns.
template <int kDim, int kCount>
__device__ __forceinline__ void keep_rows(const PrefillPass& a, int64_t head, int split, int row, int first,
                                          const float (&o)[kCount]) {
  const int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float* to = a.sums + kept_at(a, head, split, row + 8 * h + r) * kDim + first + 2 * c;
#pragma unroll
    for (int i = 2 * h; i < kCount; i += 4)
      *reinterpret_cast<float2*>(to + 2 * (i - 2 * h)) = make_float2(o[i], o[i + 1]);
  }
}
__device__ inline void load_weights(const PrefillPass& a, int64_t head, int split, int row, RowWeights& w) {
  const int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float2 x =
        *reinterpret_cast<const float2*>(a.weights + 2 * kept_at(a, head, split, row + 8 * h + r));
    w.most[h] = x.x;
    w.sum[h] = c == 0 ? x.y : 0.0f;
  }
}
__device__ inline void keep_weights(const PrefillPass& a, int64_t head, int split, int row,
                                    const RowWeights& w) {
  const int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float sum = over_row(w.sum[h]);
    if (c == 0)
      *reinterpret_cast<float2*>(a.weights + 2 * kept_at(a, head, split, row + 8 * h + r)) =
          make_float2(w.most[h], sum);
  }
}

/// Writes the results of a lane's rows. Rows behind the last token are left out.
template <int kDim, int kCount>
__device__ __forceinline__ void write_rows(const PrefillPass& a, int sequence, int kv_head, int row,
                                           int first, const RowWeights& w, const float (&o)[kCount]) {
  const int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int at = row + 8 * h + r, token = at / a.group;
    const float sum = over_row(w.sum[h]);
    if (token >= a.tokens) continue;
    const float inverse = 1 / (sum + sink_weight(a, kv_head * a.group + at % a.group, w.most[h]));
    __half* to =
        a.out +
        ((int64_t(sequence) * a.tokens + token) * a.n_heads + kv_head * a.group + at % a.group) * kDim +
        first + 2 * c;
#pragma unroll
    for (int i = 2 * h; i < kCount; i += 4)
      *reinterpret_cast<uint32_t*>(to + 2 * (i - 2 * h)) = pack2(o[i] * inverse, o[i + 1] * inverse);
  }
}

/// Copies rows of queries to shared memory, by kThreads threads: (D / 64 rounded up, rows, 64), as a tile's
/// keys lie. Rows behind the last are zeros.
template <int kDim, int kRows, int kThreads>
__device__ inline void put_queries(const PrefillPass& a, int sequence, int kv_head, int first_row,
                                   unsigned char* shared) {
  constexpr int kPieces = kDim / 8;
  for (int i = threadIdx.x % kThreads; i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces, token = (first_row + row) / a.group;
    const __half* from = a.q +
                         ((int64_t(sequence) * a.tokens + token) * a.n_heads + kv_head * a.group +
                          (first_row + row) % a.group) *
                             kDim +
                         8 * piece;
    *reinterpret_cast<uint4*>(shared + piece / 8 * kRows * kRowBytes + place_of(row, piece % 8)) =
        token < a.tokens ? *reinterpret_cast<const uint4*>(from) : uint4{};
  }
}

}  // namespace blockgtq::cuda
