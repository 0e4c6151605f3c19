// Block statistics per chunk of tokens and KV head, in float64:
//
//   q2_i  = sum_t,g |q_tg^(i)|^2     k2_i  = sum_t |k_t^(i)|^2       over the coordinates of rotary block i
//   k_sum = sum_t k_t                v_sum = sum_t v_t               vv = sum_t v_t v_t^T
//
//   q (T, Hq, D), k (T, H, D), v (T, H, Dv) float32, dense
//   sums (n_chunks, chunk_size): q2 (H, B) | k2 (H, B) | k_sum (H, D) | v_sum (H, Dv) | vv (H, Dv, Dv)
//
// Every sum is one chain over tokens (and over heads inside a token) in ascending order. The product of two
// floats is exact in float64, so that a fused multiply-add gives the same bits as the CPU's multiply and add.
//
// Bytes moved: 4 (Hq D + H D + H Dv) T, which is q, k and v once for the sums; v once more per tile of vv,
// from L2. vv takes H Dv^2 T / 2 float64 multiply-adds, without tensor cores.
#include <algorithm>
#include <climits>

#include "kernels/device/check.cuh"
#include "kernels/diagnose/stats.h"

namespace blockgtq::cuda {
namespace {

constexpr int kAhead = 16;  // loads in flight per thread

/// The tokens [first, first + n) of a block's chunk.
struct Range {
  int64_t first;
  int n;
};
__device__ Range chunk_range(const StatsInput& in, int64_t chunk) {
  const int64_t first = chunk * in.chunk;
  return {first, int(min(in.chunk, in.n_tokens - first))};
}

/// One coordinate, at x[0], of `n` tokens of `group` heads each. Heads lie `width` apart inside a token.
struct Column {
  const float* x;
  int64_t token_stride;
  int n, group, width;
};

struct Sums {
  double value = 0, square = 0;
};

__device__ Sums sum_column(const Column& c) {
  Sums s;
  const float* at = c.x;
  const int64_t next_token = c.token_stride - int64_t(c.group) * c.width;
  int g = 0;
  for (int64_t row = 0, rows = int64_t(c.n) * c.group; row < rows; row += kAhead) {
    float x[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      x[i] = row + i < rows ? *at : 0.0f;  // adding a zero changes no sum
      at += c.width;
      if (++g == c.group) {
        g = 0;
        at += next_token;
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      s.value += double(x[i]);
      s.square = fma(double(x[i]), double(x[i]), s.square);
    }
  }
  return s;
}

/// Notes the first token with a NaN or infinity. A float64 sum of floats, or of their squares, is finite
/// exactly where all of them are.
__device__ void note_nonfinite(const Column& c, double sum, int32_t* bad) {
  if (isfinite(sum)) return;
  for (int t = 0; t < c.n; ++t)
    for (int g = 0; g < c.group; ++g)
      if (!isfinite(c.x[t * c.token_stride + int64_t(g) * c.width])) {
        atomicMin(bad, t);
        return;
      }
}

/// Adds the squares of coordinates (in shared memory) to those of rotary blocks.
__device__ void store_blocks(const StatsInput& in, const double* squares, double* to) {
  const int n = in.layout.rotary_dim / 2, d = in.layout.head_dim;
  for (int b = threadIdx.x; b < d / 2; b += blockDim.x) {
    int i = in.layout.rotary_dim + b - n, j = i + (d - in.layout.rotary_dim) / 2;
    if (b < n) {
      const bool half = in.layout.pairing == Pairing::half;
      i = half ? b : 2 * b;
      j = half ? b + n : 2 * b + 1;
    }
    to[b] = squares[i] + squares[j];
  }
}

/// Grid: chunks, heads, roles (0 is q, 1 is k, 2 is v). Thread j takes coordinate j.
__global__ void column_kernel(StatsInput in, double* sums, int32_t* bad) {
  __shared__ double squares[kMaxStatsDim];
  const int64_t chunk = blockIdx.x;
  const int head = blockIdx.y, role = blockIdx.z, j = threadIdx.x;
  const int d = in.layout.head_dim, group = in.n_heads / in.n_kv_heads;
  const Range range = chunk_range(in, chunk);
  double* to = sums + chunk * in.chunk_size();
  bad += 3 * chunk + role;
  if (role == 2) {
    if (j >= in.v_dim) return;
    const Column c{in.v + (range.first * in.n_kv_heads + head) * in.v_dim + j,
                   int64_t(in.n_kv_heads) * in.v_dim, range.n, 1, 0};
    const Sums s = sum_column(c);
    note_nonfinite(c, s.value, bad);
    to[2 * in.q2_size() + in.k_size() + head * in.v_dim + j] = s.value;
    return;
  }
  if (j < d) {
    const Column c = role == 0 ? Column{in.q + (range.first * in.n_heads + head * group) * d + j,
                                        int64_t(in.n_heads) * d, range.n, group, d}
                               : Column{in.k + (range.first * in.n_kv_heads + head) * d + j,
                                        int64_t(in.n_kv_heads) * d, range.n, 1, d};
    const Sums s = sum_column(c);
    note_nonfinite(c, s.square, bad);
    squares[j] = s.square;
    if (role == 1) to[2 * in.q2_size() + head * d + j] = s.value;
  }
  __syncthreads();
  store_blocks(in, squares, to + role * in.q2_size() + head * (d / 2));
}

constexpr int kTile = 64, kStep = 16, kMomentThreads = 256;

/// Grid: chunks, heads, pairs of tiles. A block takes 64 by 64 entries of vv on or below the diagonal and
/// their mirror image, 4 by 4 per thread.
__global__ void __launch_bounds__(kMomentThreads) moment_kernel(StatsInput in, double* sums) {
  __shared__ double rows[kStep][kTile], columns[kStep][kTile];
  const int64_t chunk = blockIdx.x;
  const int head = blockIdx.y, dv = in.v_dim;
  int row_tile = 0, pair = blockIdx.z;  // pairs (0,0), (1,0), (1,1), (2,0), ...
  while (pair > row_tile) pair -= ++row_tile;
  const int i0 = row_tile * kTile, j0 = pair * kTile;
  const Range range = chunk_range(in, chunk);
  const float* v = in.v + (range.first * in.n_kv_heads + head) * dv;
  const int64_t stride = int64_t(in.n_kv_heads) * dv;
  const int ti = threadIdx.x / 16 * 4, tj = threadIdx.x % 16 * 4;
  double sum[4][4] = {};
  for (int t0 = 0; t0 < range.n; t0 += kStep) {
    for (int i = threadIdx.x; i < kStep * kTile; i += kMomentThreads) {
      const int t = i / kTile, c = i % kTile;
      const bool there = t0 + t < range.n;
      const float* token = v + (t0 + t) * stride;
      rows[t][c] = there && i0 + c < dv ? double(token[i0 + c]) : 0.0;
      columns[t][c] = there && j0 + c < dv ? double(token[j0 + c]) : 0.0;
    }
    __syncthreads();
#pragma unroll 4
    for (int t = 0; t < kStep; ++t)
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int c = 0; c < 4; ++c) sum[r][c] = fma(rows[t][ti + r], columns[t][tj + c], sum[r][c]);
    __syncthreads();
  }
  double* to =
      sums + chunk * in.chunk_size() + 2 * in.q2_size() + in.k_size() + in.v_size() + int64_t(head) * dv * dv;
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) {
      const int i = i0 + ti + r, j = j0 + tj + c;
      if (i >= dv || j > i) continue;
      to[int64_t(i) * dv + j] = sum[r][c];
      to[int64_t(j) * dv + i] = sum[r][c];
    }
}

__global__ void clear_bad_kernel(int32_t* bad, int64_t n) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) bad[i] = INT_MAX;
}

}  // namespace

void block_stats(const StatsInput& in, double* sums, int32_t* bad, const Stream& stream) {
  const int d = in.layout.head_dim, dv = in.v_dim;
  check(d >= 2 && d % 2 == 0 && d <= kMaxStatsDim && dv >= 0 && dv <= kMaxStatsDim, "block_stats: dimension");
  check(in.n_kv_heads >= 1 && in.n_kv_heads <= 65535 && in.n_heads % in.n_kv_heads == 0,
        "block_stats: heads");
  check(in.n_tokens >= 1 && in.chunk >= 1 && in.n_chunks() <= INT_MAX && in.chunk <= INT_MAX,
        "block_stats: tokens");
  check(in.q && in.k && (dv == 0 || in.v) && sums && bad, "block_stats: arrays");
  const unsigned chunks = unsigned(in.n_chunks()), heads = unsigned(in.n_kv_heads);
  const int64_t n_bad = 3 * in.n_chunks();
  clear_bad_kernel<<<unsigned((n_bad + 255) / 256), 256, 0, raw(stream)>>>(bad, n_bad);
  check_launch("block_stats: clear");
  const unsigned threads = unsigned((std::max(d, dv) + 31) / 32 * 32);
  column_kernel<<<dim3(chunks, heads, dv > 0 ? 3 : 2), threads, 0, raw(stream)>>>(in, sums, bad);
  check_launch("block_stats: columns");
  if (dv == 0) return;
  const unsigned tiles = unsigned((dv + kTile - 1) / kTile);
  moment_kernel<<<dim3(chunks, heads, tiles * (tiles + 1) / 2), kMomentThreads, 0, raw(stream)>>>(in, sums);
  check_launch("block_stats: second moments");
}

}  // namespace blockgtq::cuda
