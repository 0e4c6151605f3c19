// Quantizes keys, restores them and measures the logit error, all in one block's shared memory:
//
//   e         = k - k_hat
//   err(q, o) = sum_i [ A_i cos_io + B_i sin_io ] + static
//   A_i       = q0 e0 + q1 e1,  B_i = q1 e0 - q0 e1      over the two coordinates of rotary block i
//   static    = q . e                                    over the coordinates that do not rotate
//   result    = sum of |err(q, o)|                       over tokens, heads and offsets o
//
//   q (T, Hq, D), k (T, H, D), table (2n, offsets): cosines, then sines
//
// A block takes 32 tokens of one KV head under one quantizer (tq_mse.cuh). With e in shared memory it goes
// through the group's query heads two at a time. [A | B] (64, 2n) takes the place of u and y, and its product
// with the table stays in registers: four rows by four offsets per thread. The |err| are added in float64.
//
// Per key: 2 D^2 + G 2n 50 multiply-adds in float32 (50 offsets), which is the bound. Bytes moved: q and k
// once per layer. The rest comes from the caches.
#include "kernels/diagnose/diagnose.h"

#include <algorithm>

#include "kernels/codes/tile_sums.cuh"
#include "kernels/codes/tq_mse.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kHeads = 2;  // query heads at a time
constexpr int kRows = kHeads * kTileTokens;

struct Args {
  const CodeTable* tables;  // from that of job 0 on
  const float* numbers;
  const float *q, *k, *table;
  int64_t n_tokens;
  int n_heads, n_kv_heads, dim;
  int rotary_dim;  // 2n
  bool interleaved;
  int depth, width;  // 2n and the number of offsets, padded to multiples of 4
  int n_offsets;
};

/// The two coordinates of block i, paired as in BlockLayout.
__device__ int2 block_coords(const Args& a, int i) {
  const int n = a.rotary_dim / 2;
  if (i >= n) {
    const int first = a.rotary_dim + i - n;
    return {first, first + (a.dim - a.rotary_dim) / 2};
  }
  return a.interleaved ? int2{2 * i, 2 * i + 1} : int2{i, i + n};
}

/// Quantizes the tile and leaves e = k - k_hat in s.x.
__device__ void leave_errors(const CodeTile& s) {
  normalize(s);
  __syncthreads();
  rotate<true>(s, s.u, [&](int t, int group, int slot, float y) {
    const GroupTable& g = s.table->groups[group];
    const float* book = book_of(s, group);
    s.y[t * s.stride + slot] = slot - g.first < g.d ? book[nearest(book + (1 << g.bits), g.bits, y)] : 0.0f;
  });
  __syncthreads();
  correct_norms(s);
  __syncthreads();
  rotate<false>(s, s.y, [&](int t, int, int slot, float restored) {
    const int coord = s.table->coord[slot];
    if (coord >= 0) s.x[t * s.stride + coord] = __fsub_rn(s.x[t * s.stride + coord], restored);
  });
  __syncthreads();
}

/// Counts the norms of n_valid tokens that were cut to fp16's largest number.
__device__ void count_clipped(const CodeTile& s, int n_valid, unsigned long long* clipped) {
  constexpr uint16_t kLargest = 0x7bff;
  for (int i = threadIdx.x; i < n_valid * s.table->n_groups; i += kTileThreads)
    if (s.norm[i / s.table->n_groups * kMaxCodeGroups + i % s.table->n_groups] == kLargest)
      atomicAdd(clipped, 1ull);
}

/// Writes row (head, token) of [A | B] and its static part, by one warp. They are zero where there is no such
/// head or token.
__device__ void fill_row(const Args& a, const CodeTile& s, const float* q, int row, float* ab, float* fixed) {
  const int lane = threadIdx.x % 32, n = a.rotary_dim / 2;
  for (int i = lane; i < a.depth; i += 32)
    if (!q || i >= a.rotary_dim) ab[i] = 0;
  if (lane == 0) *fixed = 0;
  if (!q) return;
  const float* e = s.x + row % kTileTokens * s.stride;
  for (int i = lane; i < n; i += 32) {
    const int2 c = block_coords(a, i);
    const float q0 = q[c.x], q1 = q[c.y], e0 = e[c.x], e1 = e[c.y];
    ab[i] = __fadd_rn(__fmul_rn(q0, e0), __fmul_rn(q1, e1));
    ab[n + i] = __fsub_rn(__fmul_rn(q1, e0), __fmul_rn(q0, e1));
  }
  if (lane != 0 || a.rotary_dim == a.dim) return;
  float rest = 0;
  for (int i = n; i < a.dim / 2; ++i) {
    const int2 c = block_coords(a, i);
    rest = __fadd_rn(rest, __fadd_rn(__fmul_rn(q[c.x], e[c.x]), __fmul_rn(q[c.y], e[c.y])));
  }
  *fixed = rest;
}

/// The sum of |ab . table + fixed| over this thread's items, which are four rows by four offsets each.
__device__ double add_errors(const Args& a, const float* ab, int stride, const float* fixed, int n_rows,
                             int n_valid) {
  double total = 0;
  const int n_quads = a.width / 4;
  for (int item = threadIdx.x; item < n_quads * (n_rows / 4); item += kTileThreads) {
    const int quad = item % n_quads, row = item / n_quads * 4;
    const float* m = a.table + 4 * quad;
    float sum[4][4] = {};
    for (int k = 0; k < a.depth; k += 4) {
      float4 b[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) b[i] = __ldg(reinterpret_cast<const float4*>(m + (k + i) * a.width));
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const float4 v = *reinterpret_cast<const float4*>(ab + (row + r) * stride + k);
        const float x[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[r][0] = fmaf(x[i], b[i].x, sum[r][0]);
          sum[r][1] = fmaf(x[i], b[i].y, sum[r][1]);
          sum[r][2] = fmaf(x[i], b[i].z, sum[r][2]);
          sum[r][3] = fmaf(x[i], b[i].w, sum[r][3]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int c = 0; c < 4; ++c)
        if ((row + r) % kTileTokens < n_valid && 4 * quad + c < a.n_offsets)
          total += fabs(double(sum[r][c]) + double(fixed[row + r]));
  }
  return total;
}

__global__ void __launch_bounds__(kTileThreads)
    logit_error_kernel(Args a, double* partial, unsigned long long* clipped) {
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ float fixed[kRows];
  __shared__ double parts[kTileThreads / 32];
  const int job = blockIdx.y, head = job % a.n_kv_heads, group = a.n_heads / a.n_kv_heads;
  const int64_t t0 = int64_t(blockIdx.x) * kTileTokens;
  const int n_valid = int(min(int64_t(kTileTokens), a.n_tokens - t0));
  const CodeTile s = make_tile(shared, a.tables + job, a.numbers);
  __syncthreads();
  load_keys(s, a.k + (t0 * a.n_kv_heads + head) * a.dim, int64_t(a.n_kv_heads) * a.dim, n_valid);
  __syncthreads();
  leave_errors(s);
  count_clipped(s, n_valid, clipped + job);

  float* ab = s.u;  // (64, depth + 4): depth <= D + 2, so that it fits into u and y
  const int stride = a.depth + 4;
  double total = 0;
  for (int g0 = 0; g0 < group; g0 += kHeads) {
    const int n_rows = min(kHeads, group - g0) * kTileTokens;
    for (int row = threadIdx.x / 32; row < n_rows; row += kTileThreads / 32) {
      const int t = row % kTileTokens, g = g0 + row / kTileTokens;
      const float* q = t < n_valid ? a.q + ((t0 + t) * a.n_heads + head * group + g) * a.dim : nullptr;
      fill_row(a, s, q, row, ab + row * stride, fixed + row);
    }
    __syncthreads();
    total += add_errors(a, ab, stride, fixed, n_rows, n_valid);
    __syncthreads();
  }
  total = block_sum(total, parts);
  if (threadIdx.x == 0) partial[job * int64_t(gridDim.x) + blockIdx.x] = total;
}

int64_t n_tiles(int64_t n_tokens) {
  return (n_tokens + kTileTokens - 1) / kTileTokens;
}
int padded(int n) {
  return (n + 3) / 4 * 4;
}

}  // namespace

LogitTable::LogitTable(const BlockLayout& metric, const std::vector<float>& table, int n_offsets,
                       const Stream& stream)
    : metric_(metric), n_offsets_(n_offsets) {
  const int depth = metric.rotary_dim, width = padded(n_offsets);
  check(depth >= 0 && depth % 2 == 0 && depth <= metric.head_dim, "LogitTable: rotary dimension");
  check(n_offsets >= 1 && table.size() == size_t(depth) * n_offsets, "LogitTable: size");
  std::vector<float> rows(size_t(padded(depth)) * width);
  for (int i = 0; i < depth; ++i)
    std::copy_n(&table[size_t(i) * n_offsets], n_offsets, &rows[size_t(i) * width]);
  data_ = Buffer(rows.size() * sizeof(float));
  upload(data_.as(), rows.data(), data_.bytes(), stream);
  stream.synchronize();  // the host's rows end here
}

int64_t logit_scratch(const LogitJobs& jobs) {
  return jobs.n_jobs * n_tiles(jobs.n_tokens);
}

void logit_error(const LogitJobs& jobs, const LogitTable& table, const LogitSums& sums, double* scratch,
                 const Stream& stream) {
  const BlockLayout& metric = table.metric();
  check(jobs.tables && jobs.first >= 0 && jobs.n_jobs >= 1 && jobs.first + jobs.n_jobs <= jobs.tables->size(),
        "logit_error: quantizers outside the tables");
  check(jobs.n_kv_heads >= 1 && jobs.n_heads % jobs.n_kv_heads == 0 && jobs.n_jobs % jobs.n_kv_heads == 0,
        "logit_error: heads");
  check(metric.head_dim == jobs.tables->dim(), "logit_error: metric of another head dimension");
  check(jobs.n_tokens >= 1 && jobs.q && jobs.k && sums.errors && sums.clipped && scratch,
        "logit_error: arrays");
  check(jobs.n_jobs <= 65535 && n_tiles(jobs.n_tokens) <= INT32_MAX, "logit_error: size");
  Args a{};
  a.tables = jobs.tables->tables() + jobs.first;
  a.numbers = jobs.tables->numbers();
  a.q = jobs.q;
  a.k = jobs.k;
  a.table = table.data();
  a.n_tokens = jobs.n_tokens;
  a.n_heads = jobs.n_heads;
  a.n_kv_heads = jobs.n_kv_heads;
  a.dim = metric.head_dim;
  a.rotary_dim = metric.rotary_dim;
  a.interleaved = metric.pairing == Pairing::interleaved;
  a.depth = padded(metric.rotary_dim);
  a.n_offsets = table.n_offsets();
  a.width = padded(a.n_offsets);
  const size_t shared = tile_bytes(a.dim);
  allow_shared(logit_error_kernel, shared);
  const dim3 grid(unsigned(n_tiles(a.n_tokens)), unsigned(jobs.n_jobs));
  fill_zero(sums.clipped, jobs.n_jobs * sizeof(uint64_t), stream);
  logit_error_kernel<<<grid, kTileThreads, shared, raw(stream)>>>(
      a, scratch, reinterpret_cast<unsigned long long*>(sums.clipped));
  check_launch("logit_error");
  sum_tiles(scratch, jobs.n_jobs, n_tiles(a.n_tokens), sums.errors, stream);
}

}  // namespace blockgtq::cuda
