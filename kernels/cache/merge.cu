// The second pass of attention over a context that was cut into splits: combines the splits of a query head.
//
//   o = (B_v sum_s f_s o_s + sum_e f_e o_e + mean_v sum_s f_s c_s) / L,   f = 2^(m - max m),   L = sum f l
//
// Here s are the splits over packed values and e those over exact values. c_s is the sum of the weights of
// positions that do not keep their mean. Where values have centres, c_s has a row for each of them, and
// mean_v is the matrix of centres. Where heads have sinks, L has one more term, 2^(sink - max m). Grid:
// query heads, sequences.
#include <cuda_fp16.h>

#include "kernels/cache/merge.h"
#include "kernels/cache/packed_table.h"
#include "kernels/cache/splits.cuh"
#include "kernels/cache/turn_back.cuh"
#include "kernels/device/float_type.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kMostMerged = kMostSplits + kMostSplitsBeside;
constexpr int kGroups = 16;   // groups of threads, each for every 16th split
constexpr int kInFlight = 5;  // splits that a thread loads at a time
constexpr int kAtOnce = kGroups * kInFlight, kOfLane = (kAtOnce + 31) / 32;

/// kBoth: there are packed and exact splits, otherwise those of one kind only. kSinks: there are sinks.
/// kCentreRows: of packed splits.
template <int kDim, bool kBoth, bool kSinks, int kCentreRows>
__global__ void __launch_bounds__(4 * kDim) merge_kernel(const MergeSplits a) {
  constexpr int kQuads = kDim / 4, kEach = (kDim + 31) / 32;  // rows of B_v that a lane holds
  __shared__ float4 packed[kGroups][kQuads], exact[kBoth ? kGroups : 1][kQuads];
  __shared__ float packed_sum[kDim], exact_sum[kDim];
  const int head = blockIdx.x, sequence = blockIdx.y, group = a.n_heads / a.n_kv_heads,
            kv_head = head / group;
  const int heads = heads_per_chunk(group), chunks = (group + heads - 1) / heads;
  const int chunk = head % group / heads, place = head % group % heads;
  const int n_packed = a.packed.splits, n_splits = n_packed + a.exact.splits;
  // floats of a split, packed and exact
  const int stride = split_floats(kDim + kCentreRows, heads), exact_stride = split_floats(kDim, heads);
  const auto of_head = [&](const SplitSums& x, int floats) {
    return x.sums + ((int64_t(sequence) * a.n_kv_heads + kv_head) * chunks + chunk) * (x.splits * floats);
  };
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int quad = threadIdx.x % kQuads, mine = threadIdx.x / kQuads;
  // Where this thread's four rows, and the maximum and sums of weights, lie in the first split of each kind.
  const int rows_at = place * kDim + 4 * quad, sums_at = heads * kDim + 4 * place;
  const float* const first = of_head(n_packed > 0 ? a.packed : a.exact, stride);
  const float* const behind = kBoth ? of_head(a.exact, exact_stride) - n_packed * exact_stride : first;
  const float *first_rows = first + rows_at + place * kCentreRows,
              *first_sums = first + sums_at + heads * kCentreRows;
  const float *behind_rows = behind + rows_at, *behind_sums = behind + sums_at;
  settle(first_rows), settle(first_sums);
  if (kBoth) settle(behind_rows), settle(behind_sums);
  let_successor_start();
  // B_v does not depend on the preceding kernel. A lane has rows lane, lane + 32, ... of eight columns.
  const __half* back =
      static_cast<const __half*>(a.value_back) + int64_t(kv_head) * a.value_rows * kDim + 8 * warp;
  uint4 held[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    held[i] = lane + 32 * i < a.value_rows ? *reinterpret_cast<const uint4*>(back + (lane + 32 * i) * kDim)
                                           : uint4{};
  wait_for_predecessor();
  float most = -INFINITY, l = 0, centred = 0;  // over this lane's splits
  float4 of_packed{}, of_exact{};
#pragma unroll 1
  for (int base = 0; base < n_splits; base += kAtOnce) {
    float4 x[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int s = base + mine + kGroups * k;
      const bool is_exact = kBoth && s >= n_packed;
      const float* rows = is_exact ? behind_rows : first_rows;
      x[k] = s < n_splits ? *reinterpret_cast<const float4*>(rows + s * (is_exact ? exact_stride : stride))
                          : float4{};
    }
    // Every warp computes all factors, so that none waits for another. Adding 0 x makes the compiler load x
    // here. Otherwise it puts most of these loads off until the factors are known (0.8 us).
    float2 ml[kOfLane];
    float largest = most;
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
      const int s = base + lane + 32 * i;
      ml[i] = lane + 32 * i < kAtOnce && s < n_splits
                  ? *reinterpret_cast<const float2*>(kBoth && s >= n_packed ? behind_sums + s * exact_stride
                                                                            : first_sums + s * stride)
                  : make_float2(-INFINITY, 0);
    }
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) largest = fmaxf(largest, ml[i].x);
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) largest = fmaf(x[k].x, 0.0f, largest);
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(kAll, largest, apart));
    const float shrink = exp2_fast(most - largest);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kOfLane; ++i) {
      ml[i].x = exp2_fast(ml[i].x - largest);
      sum = fmaf(ml[i].y, ml[i].x, sum);
    }
    most = largest;
    l = fmaf(l, shrink, sum);
    const auto scale = [&](float4& o) { o.x *= shrink, o.y *= shrink, o.z *= shrink, o.w *= shrink; };
    scale(of_packed);
    if (kBoth) scale(of_exact);
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const float factor = __shfl_sync(kAll, ml[k / 2].x, mine + k % 2 * kGroups);
      float4& to = kBoth && base + mine + kGroups * k >= n_packed ? of_exact : of_packed;
      to.x = fmaf(x[k].x, factor, to.x), to.y = fmaf(x[k].y, factor, to.y);
      to.z = fmaf(x[k].z, factor, to.z), to.w = fmaf(x[k].w, factor, to.w);
    }
  }
  // In a loop of its own: in the loop above it would take registers in all layers.
  if (a.value_mean)
#pragma unroll 1
    for (int s = lane; s < n_packed; s += 32) {
      const float* const of_split = first_sums + s * stride;
      centred = fmaf(of_split[2], exp2_fast(of_split[0] - most), centred);
    }
  // Sums of weights by centre: a group of threads for every fourth split or more, then all groups' together.
  constexpr int kCentreGroups = kCentreRows > 0 ? 4 * kDim / kCentreRows : 1;
  __shared__ float by_centre[kCentreGroups][kCentreRows > 0 ? kCentreRows : 1];
  if constexpr (kCentreRows > 0) {
    static_assert(kCentreGroups * kCentreRows == 4 * kDim);
    const int group_of_threads = threadIdx.x / kCentreRows, row = threadIdx.x % kCentreRows;
    const float* const sums_of_row = first + place * (kDim + kCentreRows) + kDim + row;
    float sum = 0;
#pragma unroll 4
    for (int s = group_of_threads; s < n_packed; s += kCentreGroups)
      sum = fmaf(sums_of_row[s * stride], exp2_fast(first_sums[s * stride] - most), sum);
    by_centre[group_of_threads][row] = sum;
  }
  packed[mine][quad] = of_packed;
  if (kBoth) exact[mine][quad] = of_exact;
  __syncthreads();
  if (threadIdx.x < kDim) {
    float sum = 0, other = 0;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      sum += reinterpret_cast<const float*>(packed[i])[threadIdx.x];
      if (kBoth) other += reinterpret_cast<const float*>(exact[i])[threadIdx.x];
    }
    packed_sum[threadIdx.x] = sum;
    exact_sum[threadIdx.x] = n_packed > 0 ? other : sum;
  }
  __syncthreads();
  float y[8] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const float value = lane + 32 * i < a.value_rows ? packed_sum[lane + 32 * i] : 0.0f;
    add_row(y, value, held[i]);
  }
  if constexpr (kCentreRows > 0) {
    const __half* const centres =
        static_cast<const __half*>(a.centres) + int64_t(kv_head) * kCentreRows * kDim + 8 * warp;
#pragma unroll 2
    for (int row = lane; row < kCentreRows; row += 32) {
      float value = 0;
#pragma unroll
      for (int i = 0; i < kCentreGroups; ++i) value += by_centre[i][row];
      add_row(y, value, *reinterpret_cast<const uint4*>(centres + row * kDim));
    }
  }
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) {
    l += __shfl_xor_sync(kAll, l, apart);
    if (a.value_mean) centred += __shfl_xor_sync(kAll, centred, apart);
  }
  const LaneSum column = sum_over_lanes(y);
  if (lane % 4 != 0) return;
  const int at = 8 * warp + column.index;
  float inverse = l > 0 ? __fdividef(1.0f, l) : 0.0f;
  if constexpr (kSinks) {
    const float sink = a.sinks[head] * kLog2e, top = fmaxf(most, sink), less = exp2_fast(most - top);
    inverse = less / fmaf(l, less, exp2_fast(sink - top));
  }
  float out = (column.sum + exact_sum[at]) * inverse;
  if (a.value_mean) out = fmaf(a.value_mean[kv_head * kDim + at], centred * inverse, out);
  store_16(a.out, (int64_t(sequence) * a.n_heads + head) * kDim + at, out, a.type == FloatType::bf16);
}

}  // namespace

void merge_splits(const MergeSplits& a, const Stream& stream) {
  check(a.packed.splits + a.exact.splits > 0 && a.packed.splits + a.exact.splits <= kMostMerged,
        "merge_splits: number of splits");
  check(a.packed.splits > 0 || !a.centres, "merge_splits: centres without packed splits");
  with_dim(a.dim, [&](auto dim) {
    const bool both = a.packed.splits > 0 && a.exact.splits > 0;
    const auto of_rows = [&](auto rows) {
      return a.sinks ? both ? merge_kernel<dim.value, true, true, rows.value>
                            : merge_kernel<dim.value, false, true, rows.value>
             : both ? merge_kernel<dim.value, true, false, rows.value>
                     : merge_kernel<dim.value, false, false, rows.value>;
    };
    const auto kernel = a.centres ? of_rows(std::integral_constant<int, centre_rows(kMostCentresOnDevice)>())
                                  : of_rows(std::integral_constant<int, 0>());
    // The same division between L1 and shared memory as in the preceding kernel. Otherwise multiprocessors
    // would have to run empty to change it.
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                    cudaSharedmemCarveoutMaxShared),
               "shared memory");
    launch_early(kernel, dim3(a.n_heads, a.batch), 4 * dim.value, 0, stream, "merge", a);
  });
}

}  // namespace blockgtq::cuda
