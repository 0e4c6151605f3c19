// Attention over a context that was cut into splits: the splits of one query head become one.
//
//   o = (B_v sum_s f_s o_s + sum_e f_e o_e) / L + mean_v L_packed / L,   f = 2^(m - max m), L = sum f l
//
// with s the splits over packed values, e those over values as they are. Grid: query heads, sequences.
#include <cuda_fp16.h>

#include "merge.h"
#include "splits.cuh"
#include "unpack.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kMergeThreads = 512, kMostMerged = kMostSplits + kMostSplitsBeside;

/// kBoth: packed and exact splits, else those of one kind only.
template <int kDim, bool kBoth>
__global__ void __launch_bounds__(kMergeThreads) merge_kernel(const MergeSplits a) {
  constexpr int kParts = kMergeThreads / kDim, kInFlight = 17;  // threads of one row; its loads under way
  constexpr int kColumns = kDim / 8, kRowsAtOnce = kMergeThreads / kColumns,
                kEach = (kDim + kRowsAtOnce - 1) / kRowsAtOnce;
  __shared__ float factor[kMostMerged], o[kParts][kDim], exact[kParts][kDim], columns[kRowsAtOnce][kDim + 1];
  __shared__ float total, packed_total;
  const int head = blockIdx.x, sequence = blockIdx.y, group = a.n_heads / a.n_kv_heads,
            kv_head = head / group;
  const int heads = heads_per_chunk(group), chunks = (group + heads - 1) / heads;
  const int chunk = head % group / heads, place = head % group % heads;
  const int n_packed = a.packed.splits, n_splits = n_packed + a.exact.splits;
  const int64_t stride = int64_t(heads) * (kDim + 2);  // of a split
  const auto of_head = [&](const SplitSums& x) {
    return x.sums + ((int64_t(sequence) * a.n_kv_heads + kv_head) * chunks + chunk) * x.splits * stride +
           place * (kDim + 2);
  };
  const float* const first = of_head(n_packed > 0 ? a.packed : a.exact);
  const float* const behind = kBoth ? of_head(a.exact) - n_packed * stride : nullptr;
  const auto sums_of = [&](int s) { return (kBoth && s >= n_packed ? behind : first) + s * stride; };
  let_successor_start();
  // B_v does not depend on the kernel before.
  const int column = threadIdx.x % kColumns * 8, row = threadIdx.x / kColumns;
  const __half* back =
      static_cast<const __half*>(a.value_back) + int64_t(kv_head) * a.value_rows * kDim + column;
  uint4 held[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    held[i] = row + i * kRowsAtOnce < a.value_rows && row < kRowsAtOnce
                  ? *reinterpret_cast<const uint4*>(back + (row + i * kRowsAtOnce) * kDim)
                  : uint4{};
  wait_for_predecessor();
  const int mine = threadIdx.x % kDim, part = threadIdx.x / kDim;
  float x[kInFlight];
#pragma unroll
  for (int i = 0; i < kInFlight; ++i) {
    const int s = part + i * kParts;
    x[i] = part < kParts && s < n_splits ? sums_of(s)[2 + mine] : 0.0f;
  }
  if (threadIdx.x < 32) {
    constexpr int kOfLane = kMostMerged / 32;
    float2 ml[kOfLane];  // maximum and sum
    float most = -INFINITY, l = 0, l_packed = 0;
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
      const int s = threadIdx.x + 32 * i;
      ml[i] = s < n_splits ? *reinterpret_cast<const float2*>(sums_of(s)) : make_float2(-INFINITY, 0);
    }
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) most = fmaxf(most, ml[i].x);
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) most = fmaxf(most, __shfl_xor_sync(kAll, most, apart));
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
      const int s = threadIdx.x + 32 * i;
      const float f = exp2_fast(ml[i].x - most);
      if (s < n_splits) factor[s] = f;
      l += ml[i].y * f;
      if (s < n_packed) l_packed += ml[i].y * f;
    }
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
      l += __shfl_xor_sync(kAll, l, apart);
      l_packed += __shfl_xor_sync(kAll, l_packed, apart);
    }
    if (threadIdx.x == 0) total = l, packed_total = l_packed;
  }
  __syncthreads();
  if (part < kParts) {
    float sum = 0, exact_sum = 0;
    for (int base = part; base < n_splits; base += kInFlight * kParts) {
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int s = base + i * kParts;
        if (kBoth && s >= n_packed && s < n_splits)
          exact_sum = fmaf(x[i], factor[s], exact_sum);
        else if (s < n_splits)
          sum = fmaf(x[i], factor[s], sum);
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int s = base + (kInFlight + i) * kParts;
        x[i] = s < n_splits ? sums_of(s)[2 + mine] : 0.0f;
      }
    }
    if (n_packed == 0) exact_sum = sum, sum = 0;
    o[part][mine] = sum;
    exact[part][mine] = exact_sum;
  }
  __syncthreads();
  float y[8] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int at = row + i * kRowsAtOnce;
    if (at >= a.value_rows || row >= kRowsAtOnce) continue;
    float value = 0;
#pragma unroll
    for (int p = 0; p < kParts; ++p) value += o[p][at];
    const uint32_t word[4] = {held[i].x, held[i].y, held[i].z, held[i].w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 b = unpack2(word[j]);
      y[2 * j] = fmaf(value, b.x, y[2 * j]);
      y[2 * j + 1] = fmaf(value, b.y, y[2 * j + 1]);
    }
  }
  if (row < kRowsAtOnce)
#pragma unroll
    for (int j = 0; j < 8; ++j) columns[row][column + j] = y[j];
  __syncthreads();
  if (threadIdx.x < kDim) {
    float sum = 0;
#pragma unroll 8
    for (int i = 0; i < kRowsAtOnce; ++i) sum += columns[i][threadIdx.x];
#pragma unroll
    for (int p = 0; p < kParts; ++p) sum += exact[p][threadIdx.x];
    sum = total > 0 ? sum / total : 0.0f;
    if (a.value_mean && total > 0)
      sum = fmaf(a.value_mean[kv_head * kDim + threadIdx.x], packed_total / total, sum);
    static_cast<__half*>(a.out)[(int64_t(sequence) * a.n_heads + head) * kDim + threadIdx.x] =
        __float2half_rn(sum);
  }
}

}  // namespace

void merge_splits(const MergeSplits& a, const Stream& stream) {
  check(a.packed.splits + a.exact.splits > 0 && a.packed.splits + a.exact.splits <= kMostMerged,
        "merge_splits: number of splits");
  with_dim(a.dim, [&](auto dim) {
    const auto kernel = a.packed.splits > 0 && a.exact.splits > 0 ? merge_kernel<dim.value, true>
                                                                  : merge_kernel<dim.value, false>;
    // The same division between L1 and shared memory as the kernel before: multiprocessors need not be
    // emptied to change it.
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                    cudaSharedmemCarveoutMaxShared),
               "shared memory");
    launch_early(kernel, dim3(a.n_heads, a.batch), kMergeThreads, 0, stream, "merge", a);
  });
}

}  // namespace blockgtq::cuda
