// A mixture of experts without the experts' own products.
//
//   route               score = softmax(logits_t) or sigmoid(logits_t);
//                       expert, weight = the best n_per_token of the allowed experts by score + bias;
//                       a warp per token, scores in shared memory; bytes 4 n n_experts
//   gather_rows         out_r = in_row[r]; bytes 2 n row_bytes
//   add_weighted_rows   x_t += sum_i weight(t, i) y_position(t, i); bytes 4 n cols (2 + n_per_token)
//   add_gated_rows      x_t += scale y_t / (1 + e^-open_t); bytes 12 n cols
#include <climits>

#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/forward/moe.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256;

/// The index of the largest of `count` values, the lowest of equals; every lane gets it. NaN and negative
/// infinity are ignored. The index is 0 where nothing is left.
__device__ int warp_argmax(const float* values, int count) {
  float best = -INFINITY;
  int at = INT_MAX;
  for (int i = threadIdx.x; i < count; i += 32) {
    if (values[i] > best) {
      best = values[i];
      at = i;
    }
  }
  for (int apart = 16; apart > 0; apart /= 2) {
    const float other = __shfl_xor_sync(kWholeWarp, best, apart);
    const int other_at = __shfl_xor_sync(kWholeWarp, at, apart);
    if (other > best || (other == best && other_at < at)) {
      best = other;
      at = other_at;
    }
  }
  return at == INT_MAX ? 0 : at;
}

/// Excludes all experts but those of the best groups. worth (n_group) is scratch.
__device__ void keep_best_groups(const RoutingRule& rule, float* choice, float* worth) {
  const int size = rule.n_experts / rule.n_group;
  for (int g = threadIdx.x; g < rule.n_group; g += 32) {
    float best = -INFINITY, second = -INFINITY;
    for (int e = g * size; e < (g + 1) * size; ++e) {
      second = fmaxf(second, fminf(best, choice[e]));
      best = fmaxf(best, choice[e]);
    }
    worth[g] = rule.group_by_two ? best + second : best;
  }
  __syncwarp();
  for (int i = 0; i < rule.topk_group; ++i) {
    const int g = warp_argmax(worth, rule.n_group);
    __syncwarp();
    if (threadIdx.x == 0) worth[g] = NAN;  // taken
    __syncwarp();
  }
  for (int e = threadIdx.x; e < rule.n_experts; e += 32)
    if (!isnan(worth[e / size])) choice[e] = -INFINITY;
  __syncwarp();
}

/// score (n_experts) of a token's logits.
__device__ void score_experts(const RoutingRule& rule, const float* logits, float* score) {
  if (rule.sigmoid) {
    for (int e = threadIdx.x; e < rule.n_experts; e += 32) score[e] = 1.0f / (1.0f + expf(-logits[e]));
    return;
  }
  float top = -INFINITY;
  for (int e = threadIdx.x; e < rule.n_experts; e += 32) top = fmaxf(top, logits[e]);
  top = warp_max(top);
  float sum = 0;
  for (int e = threadIdx.x; e < rule.n_experts; e += 32) sum += score[e] = expf(logits[e] - top);
  sum = warp_sum(sum);
  for (int e = threadIdx.x; e < rule.n_experts; e += 32) score[e] /= sum;
}

/// One warp per token.
__global__ void route_kernel(RoutingRule rule, const float* logits, int32_t* expert, float* weight) {
  constexpr float kLeastSum = 1e-20f;  // all sigmoids may vanish
  extern __shared__ float score[];     // (n_experts)
  float* choice = score + rule.n_experts;
  const int64_t t = blockIdx.x;
  let_successor_start();
  wait_for_predecessor();
  score_experts(rule, logits + t * rule.n_experts, score);
  for (int e = threadIdx.x; e < rule.n_experts; e += 32)
    choice[e] = rule.bias ? score[e] + rule.bias[e] : score[e];
  __syncwarp();
  if (rule.n_group > 1) keep_best_groups(rule, choice, choice + rule.n_experts);

  float kept = 0;
  expert += t * rule.n_per_token;
  weight += t * rule.n_per_token;
  for (int i = 0; i < rule.n_per_token; ++i) {
    const int e = warp_argmax(choice, rule.n_experts);
    kept += score[e];
    __syncwarp();
    if (threadIdx.x == 0) {
      expert[i] = e;
      weight[i] = score[e];
      choice[e] = -INFINITY;  // taken
    }
    __syncwarp();
  }
  if (threadIdx.x > 0) return;
  const float scale = rule.normalize ? rule.scale / fmaxf(kept, kLeastSum) : rule.scale;
  for (int i = 0; i < rule.n_per_token; ++i) weight[i] *= scale;
}

/// One block per row, a Unit per thread at a time.
template <class Unit>
__global__ void gather_rows_kernel(const Unit* in, int64_t units, const int32_t* row, Unit* out) {
  const int64_t r = blockIdx.x;
  const Unit* from = in + int64_t(row[r]) * units;
  for (int64_t i = threadIdx.x; i < units; i += kThreads) out[r * units + i] = from[i];
}

template <class Unit>
void launch_gather(const void* in, int64_t row_bytes, const int32_t* row, int64_t n, void* out,
                   const Stream& stream) {
  gather_rows_kernel<Unit><<<unsigned(n), kThreads, 0, raw(stream)>>>(
      static_cast<const Unit*>(in), row_bytes / int64_t(sizeof(Unit)), row, static_cast<Unit*>(out));
}

/// One block per token.
__global__ void add_weighted_rows_kernel(const float* y, const int32_t* position, const float* weight,
                                         int n_per_token, int64_t cols, float* x) {
  const int64_t t = blockIdx.x;
  for (int64_t j = threadIdx.x; j < cols; j += kThreads) {
    float sum = x[t * cols + j];
    for (int i = 0; i < n_per_token; ++i)
      sum += weight[t * n_per_token + i] * y[int64_t(position[t * n_per_token + i]) * cols + j];
    x[t * cols + j] = sum;
  }
}

/// One block per token.
__global__ void add_gated_rows_kernel(const float* y, const float* open, float scale, int64_t cols,
                                      float* x) {
  const int64_t t = blockIdx.x;
  const float share = scale / (1.0f + expf(-open[t]));
  for (int64_t j = threadIdx.x; j < cols; j += kThreads) x[t * cols + j] += share * y[t * cols + j];
}

}  // namespace

void route(const RoutingRule& rule, const float* logits, int64_t n, int32_t* expert, float* weight,
           const Stream& stream) {
  check(n >= 0 && n <= INT32_MAX && logits && expert && weight, "route: arguments");
  check(rule.n_experts > 0 && rule.n_experts <= kMaxRoutedExperts && rule.n_per_token > 0 &&
            rule.n_per_token <= rule.n_experts,
        "route: experts");
  check(rule.n_group > 0 && rule.n_experts % rule.n_group == 0 && rule.topk_group > 0 &&
            rule.topk_group <= rule.n_group,
        "route: groups");
  if (n == 0) return;
  const int groups = rule.n_group > 1 ? rule.n_group : 0;
  check(!rule.group_by_two || rule.n_experts >= 2 * rule.n_group, "route: groups of one by their two best");
  const size_t bytes = size_t(2 * rule.n_experts + groups) * sizeof(float);
  check_cuda(cudaFuncSetAttribute(route_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
             "route: shared memory of a multiprocessor");
  launch_early(route_kernel, dim3(unsigned(n)), 32, int(bytes), stream, "route", rule, logits, expert,
               weight);
}

void gather_rows(const void* in, int64_t row_bytes, const int32_t* row, int64_t n, void* out,
                 const Stream& stream) {
  check(n >= 0 && n <= INT32_MAX && row_bytes > 0 && row_bytes % 2 == 0 && in && row && out,
        "gather_rows: arguments");
  if (n == 0) return;
  if (row_bytes % 16 == 0 && aligned(in, 16) && aligned(out, 16))
    launch_gather<uint4>(in, row_bytes, row, n, out, stream);
  else
    launch_gather<uint16_t>(in, row_bytes, row, n, out, stream);
  check_launch("gather_rows");
}

void add_weighted_rows(const float* y, const int32_t* position, const float* weight, int64_t n,
                       int n_per_token, int64_t cols, float* x, const Stream& stream) {
  check(n >= 0 && n <= INT32_MAX && n_per_token > 0 && cols > 0 && y && position && weight && x,
        "add_weighted_rows: arguments");
  if (n == 0) return;
  add_weighted_rows_kernel<<<unsigned(n), kThreads, 0, raw(stream)>>>(y, position, weight, n_per_token, cols,
                                                                      x);
  check_launch("add_weighted_rows");
}

void add_gated_rows(const float* y, const float* open, float scale, int64_t n, int64_t cols, float* x,
                    const Stream& stream) {
  check(n >= 0 && n <= INT32_MAX && cols > 0 && y && open && x, "add_gated_rows: arguments");
  if (n == 0) return;
  add_gated_rows_kernel<<<unsigned(n), kThreads, 0, raw(stream)>>>(y, open, scale, cols, x);
  check_launch("add_gated_rows");
}

}  // namespace blockgtq::cuda
