// Log-sum-exp and the likeliest id of rows of logits, and KL(exact || other) of a row:
//
//   kl = sum_i p_i (a_i - b_i) + log sum exp b - log sum exp a,  p_i = exp(a_i - log sum exp a)
//
// where a are the exact logits. A block of 256 threads takes a row: thread t has ids t, t + 256, ... What the
// threads found is combined in a fixed order. Bytes moved: 4 vocab per row and array. A row is read twice,
// the second time from L2.
#include <algorithm>

#include "kernels/device/check.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/forward/logits.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

__global__ void finish_kernel(float* x, int64_t n, float factor, float cap) {
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const float y = x[i] * factor;
    x[i] = cap > 0 ? cap * tanhf(y / cap) : y;
  }
}

/// The sum over the block, which every thread gets. `parts` (kWarps) is free again after the next barrier.
__device__ double block_sum(double x, double* parts) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += parts[w];
  return sum;
}

struct Largest {
  float value;
  int32_t id;

  __device__ void take(float other, int32_t at) {
    if (other > value || (other == value && at < id)) value = other, id = at;
  }
};

/// The largest logit of a row and its lowest id. Every thread gets it.
__device__ Largest largest(const float* row, int64_t vocab) {
  __shared__ Largest parts[kWarps];
  Largest most{-INFINITY, INT32_MAX};
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) most.take(row[i], int32_t(i));
  for (int apart = 16; apart > 0; apart /= 2)
    most.take(__shfl_xor_sync(kWholeWarp, most.value, apart), __shfl_xor_sync(kWholeWarp, most.id, apart));
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = most;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) most.take(parts[w].value, parts[w].id);
  return most;
}

__global__ void __launch_bounds__(kThreads) sum_kernel(const float* logits, int64_t vocab, LogitSum* sums) {
  __shared__ double parts[kWarps];
  const float* row = logits + blockIdx.x * vocab;
  const Largest most = largest(row, vocab);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < vocab; i += kThreads) sum += expf(row[i] - most.value);
  sum = block_sum(sum, parts);
  if (threadIdx.x == 0) sums[blockIdx.x] = {most.value + log(sum), most.id};
}

__global__ void __launch_bounds__(kThreads) compare_kernel(LogitRows rows, RowScore* scores) {
  __shared__ double parts[2][kWarps];
  const int64_t r = blockIdx.x;
  const float *row = rows.logits + r * rows.vocab, *exact = rows.exact + r * rows.vocab;
  const LogitSum own = rows.exact_sums[r];
  const Largest most = largest(row, rows.vocab);
  double sum = 0, shift = 0;
  for (int64_t i = threadIdx.x; i < rows.vocab; i += kThreads) {
    const float a = exact[i], b = row[i];
    sum += expf(b - most.value);
    shift += expf(float(a - own.log_sum)) * (double(a) - b);
  }
  sum = most.value + log(block_sum(sum, parts[0]));
  shift = block_sum(shift, parts[1]);
  if (threadIdx.x != 0) return;
  const int32_t next = rows.next[r];
  RowScore score{shift + (sum - own.log_sum), NAN, NAN, most.id == own.top};
  if (next >= 0) score.nll = sum - row[next], score.exact_nll = own.log_sum - exact[next];
  scores[r] = score;
}

}  // namespace

void finish_logits(float* x, int64_t n, float factor, float cap, const Stream& stream) {
  check(n >= 0 && cap >= 0, "finish_logits: arguments");
  if (n == 0 || (factor == 1 && cap == 0)) return;
  constexpr int64_t kMaxBlocks = 2048;
  const auto blocks = unsigned(std::min(kMaxBlocks, (n + kThreads - 1) / kThreads));
  finish_kernel<<<blocks, kThreads, 0, raw(stream)>>>(x, n, factor, cap);
  check_launch("finish_logits");
}

void sum_logits(const float* logits, int64_t n, int64_t vocab, LogitSum* sums, const Stream& stream) {
  check(n >= 0 && n <= INT32_MAX && vocab >= 1 && vocab <= INT32_MAX, "sum_logits: shape");
  if (n == 0) return;
  sum_kernel<<<unsigned(n), kThreads, 0, raw(stream)>>>(logits, vocab, sums);
  check_launch("sum_logits");
}

void compare_logits(const LogitRows& rows, RowScore* scores, const Stream& stream) {
  check(rows.n >= 0 && rows.n <= INT32_MAX && rows.vocab >= 1 && rows.vocab <= INT32_MAX,
        "compare_logits: shape");
  if (rows.n == 0) return;
  compare_kernel<<<unsigned(rows.n), kThreads, 0, raw(stream)>>>(rows, scores);
  check_launch("compare_logits");
}

}  // namespace blockgtq::cuda
