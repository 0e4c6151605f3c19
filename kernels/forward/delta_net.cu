// Gated delta nets: what lies between their matrix products.
//
//   convolve     y_tc = silu(sum_j w_cj x_(t - kernel + 1 + j)c) over the tokens of t's chunk; bytes 8 n cols
//   delta_rule   S_t = g_t S_(t-1) + k_t (beta_t (v_t - g_t S_(t-1)^T k_t))^T,  out_t = S_t^T q_t
//
// The columns of S do not depend on each other. A block of 128 threads owns 64 columns of one chunk and value
// head. Two neighbouring lanes hold a column in registers, each every other four rows (the key dimension is
// padded with zeros to 32 or 128). The first warp makes a token's q a unit vector, the second its k. Both go
// through shared memory in two buffers, so that one barrier per token is enough. The inputs of a token are
// loaded while the preceding token is computed.
//
// Bytes moved: q and k once per 64 columns and value head, v and out once. Operations: 8 key_dim value_dim
// per token and head.
#include <algorithm>

#include "kernels/device/check.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/forward/delta_net.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 64, kSplit = 2;  // lanes per column
constexpr float kUnitEps = 1e-6f;

__device__ float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

/// blockIdx.x is the token, blockIdx.y a piece of its columns.
__global__ void __launch_bounds__(kThreads) convolve_kernel(Convolution c) {
  const int64_t t = blockIdx.x, column = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= c.cols) return;
  const int64_t seen = min(c.kernel, t % c.chunk + 1);
  float sum = 0;
  for (int64_t j = c.kernel - seen; j < c.kernel; ++j)
    sum += c.weight[column * c.kernel + j] * c.x[(t - c.kernel + 1 + j) * c.cols + column];
  c.y[t * c.cols + column] = sum * sigmoid(sum);
}

/// A thread's part of a token's inputs: of q (first warp) or k (second warp), and what its column needs.
template <int kDim>
struct Inputs {
  float key[kDim / 32];
  float value, a, b;
};

template <int kDim>
__device__ Inputs<kDim> load(const DeltaRule& r, int64_t t, int64_t head, int64_t column) {
  const int64_t keys = r.key_heads * r.key_dim, width = 2 * keys + r.value_heads * r.value_dim;
  const float* row = r.mixed + t * width;
  const int warp = threadIdx.x / 32;
  const float* key = row + warp * keys + head / (r.value_heads / r.key_heads) * r.key_dim;
  Inputs<kDim> out;
#pragma unroll
  for (int i = 0; i < kDim / 32; ++i) {
    const int at = i * 32 + threadIdx.x % 32;
    out.key[i] = warp < 2 && at < r.key_dim ? key[at] : 0;
  }
  out.value = column < r.value_dim ? row[2 * keys + head * r.value_dim + column] : 0;
  out.a = r.a[t * r.value_heads + head];
  out.b = r.b[t * r.value_heads + head];
  return out;
}

template <int kDim>
__global__ void __launch_bounds__(kColumns* kSplit) delta_kernel(DeltaRule r) {
  __shared__ float4 shared[2][2][kDim / 4];  // (token % 2, q or k)
  const int64_t first = int64_t(blockIdx.x) * r.chunk, end = min(first + r.chunk, r.n_tokens);
  const int64_t head = blockIdx.y, column = int64_t(blockIdx.z) * kColumns + threadIdx.x / kSplit;
  const int part = threadIdx.x % kSplit;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const float rate = expf(r.decay[head]), dt_bias = r.dt_bias[head];
  const float q_scale = 1.0f / sqrtf(float(r.key_dim));
  constexpr int kFours = kDim / 4 / kSplit;
  float state[kFours][4] = {};  // rows 4 (kSplit i + part) + j

  Inputs<kDim> next = load<kDim>(r, first, head, column);
  for (int64_t t = first; t < end; ++t) {
    const Inputs<kDim> now = next;
    if (t + 1 < end) next = load<kDim>(r, t + 1, head, column);
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) squares += now.key[i] * now.key[i];
    const float unit = 1.0f / sqrtf(warp_sum(squares) + kUnitEps);
    if (warp < 2) {
      float* to = reinterpret_cast<float*>(shared[t % 2][warp]);
#pragma unroll
      for (int i = 0; i < kDim / 32; ++i)
        to[i * 32 + lane] = now.key[i] * unit * (warp == 0 ? q_scale : 1.0f);
    }
    __syncthreads();

    const float step = now.a + dt_bias, softplus = step > 20 ? step : log1pf(expf(step));
    const float decay = expf(-rate * softplus);
    const float4 *q = shared[t % 2][0], *k = shared[t % 2][1];
    float seen = 0, out = 0;
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const float4 four = k[kSplit * i + part];
      const float key[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) seen += (state[i][j] *= decay) * key[j];
    }
    seen += __shfl_xor_sync(kWholeWarp, seen, 1);
    const float change = sigmoid(now.b) * (now.value - seen);
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const float4 four = k[kSplit * i + part], query = q[kSplit * i + part];
      const float key[4] = {four.x, four.y, four.z, four.w}, wanted[4] = {query.x, query.y, query.z, query.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) out += (state[i][j] += key[j] * change) * wanted[j];
    }
    out += __shfl_xor_sync(kWholeWarp, out, 1);
    if (part == 0 && column < r.value_dim) r.out[(t * r.value_heads + head) * r.out_stride + column] = out;
  }
}

}  // namespace

void convolve(const Convolution& c, const Stream& stream) {
  check(c.n >= 0 && c.n <= INT32_MAX && c.chunk > 0 && c.cols > 0 && c.kernel > 0, "convolve: shape");
  check(c.x && c.weight && c.y && c.x != c.y, "convolve: arrays");
  if (c.n == 0) return;
  const int64_t pieces = (c.cols + kThreads - 1) / kThreads;
  check(pieces <= 65535, "convolve: too wide");
  convolve_kernel<<<dim3{unsigned(c.n), unsigned(pieces)}, kThreads, 0, raw(stream)>>>(c);
  check_launch("convolve");
}

void delta_rule(const DeltaRule& r, const Stream& stream) {
  check(r.n_tokens >= 0 && r.chunk > 0 && r.key_heads > 0 && r.value_heads % r.key_heads == 0 &&
            r.value_heads > 0 && r.value_heads <= 65535,
        "delta_rule: shape");
  check(r.key_dim > 0 && r.key_dim <= kMaxDeltaKeyDim && r.value_dim > 0 && r.out_stride >= r.value_dim,
        "delta_rule: head dimensions");
  check(r.mixed && r.a && r.b && r.decay && r.dt_bias && r.out, "delta_rule: arrays");
  if (r.n_tokens == 0) return;
  const int64_t chunks = (r.n_tokens + r.chunk - 1) / r.chunk,
                pieces = (r.value_dim + kColumns - 1) / kColumns;
  check(chunks <= INT32_MAX && pieces <= 65535, "delta_rule: size");
  const dim3 grid{unsigned(chunks), unsigned(r.value_heads), unsigned(pieces)};
  if (r.key_dim <= 32)
    delta_kernel<32><<<grid, kColumns * kSplit, 0, raw(stream)>>>(r);
  else
    delta_kernel<kMaxDeltaKeyDim><<<grid, kColumns * kSplit, 0, raw(stream)>>>(r);
  check_launch("delta_rule");
}

}  // namespace blockgtq::cuda
