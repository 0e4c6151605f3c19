// Causal attention within a chunk, float32 throughout:
//
//   o_i  = sum_j e^(s_ij - m_i) v_j / (sum_j e^(s_ij - m_i) + e^(sink - m_i)),  m_i = max_j s_ij
//   s_ij = scale q_i.k_j, or its softcap, over the keys j with i - window < j <= i
//
// With a past, i counts from the past's first key.
//
// A block of 256 threads owns 64 queries of one head and walks over the chunk's keys, 32 at a time, with a
// running maximum m, sum l and output o per query (online softmax): when m grows, l and o shrink by
// e^(old m - new m). No matrix of scores leaves the chip. Tiles of keys that no query's window reaches are
// not read. A sink gives m and l their first values. Heads of any dimension are padded with zeros. Heads of
// usual dimensions without a softcap go to tensor_attention.cuh.
//
//   shared   Q (64, dim + 4)   K (32, dim + 4)   V (32, v_dim)   P (64, 32 + 4)
//   thread   (y, x) of 16 x 16: queries 4 y .. 4 y + 3; keys x, x + 16; output columns x, x + 16, ...
//
// The 4 columns of padding spread the 16-byte reads of 8 rows over all banks. Queries 4 y .. 4 y + 3 are
// shared by 16 neighbouring lanes, so that maxima, sums and P need no barrier wider than a warp.
//
// Bytes moved: q and out once, k and v once per 64 queries and query head (from L2 after the first).
// Operations: 2 (dim + v_dim) per query head and pair i >= j.
#include <algorithm>
#include <cfloat>

#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/reduce.cuh"
#include "kernels/forward/attention.h"
#include "kernels/forward/tensor_attention.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256, kSide = 16;
constexpr int kQueries = 64, kKeys = 32, kPad = 4;
constexpr int kRows = kQueries / kSide;  // queries per thread
constexpr int kColumns = kKeys / kSide;  // keys per thread

template <int kDim, int kVDim>
struct Tile {
  float q[kQueries][kDim + kPad];
  float k[kKeys][kDim + kPad];
  float v[kKeys][kVDim];
  float p[kQueries][kKeys + kPad];
};

__device__ float4 four(const float* p) {
  return *reinterpret_cast<const float4*>(p);
}

/// The maximum and the sum over the 16 lanes that share queries.
__device__ float row_max(float x) {
  for (int apart = kSide / 2; apart > 0; apart /= 2) x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, apart));
  return x;
}
__device__ float row_sum(float x) {
  for (int apart = kSide / 2; apart > 0; apart /= 2) x += __shfl_xor_sync(kWholeWarp, x, apart);
  return x;
}

/// s = the products of the thread's 4 queries and 2 keys.
template <int kDim, int kVDim>
__device__ void scores(const Tile<kDim, kVDim>& tile, int y, int x, float (&s)[kRows][kColumns]) {
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < kColumns; ++j) s[i][j] = 0;
#pragma unroll 4
  for (int d = 0; d < kDim; d += 4) {
    float4 q[kRows], k[kColumns];
#pragma unroll
    for (int i = 0; i < kRows; ++i) q[i] = four(&tile.q[y * kRows + i][d]);
#pragma unroll
    for (int j = 0; j < kColumns; ++j) k[j] = four(&tile.k[x + j * kSide][d]);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kColumns; ++j)
        s[i][j] += q[i].x * k[j].x + q[i].y * k[j].y + q[i].z * k[j].z + q[i].w * k[j].w;
    }
  }
}

/// o += P V over the tile's keys.
template <int kDim, int kVDim>
__device__ void add_values(const Tile<kDim, kVDim>& tile, int y, int x, float (&o)[kRows][kVDim / kSide]) {
#pragma unroll 2
  for (int key = 0; key < kKeys; key += 4) {
    float4 p[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) p[i] = four(&tile.p[y * kRows + i][key]);
#pragma unroll
    for (int c = 0; c < kVDim / kSide; ++c) {
      const float* v = &tile.v[key][x + c * kSide];
      const float v0 = v[0], v1 = v[kVDim], v2 = v[2 * kVDim], v3 = v[3 * kVDim];
#pragma unroll
      for (int i = 0; i < kRows; ++i) o[i][c] += p[i].x * v0 + p[i].y * v1 + p[i].z * v2 + p[i].w * v3;
    }
  }
}

template <int kDim, int kVDim, class Out>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(AttentionProblem a, int64_t n_chunks, int64_t n_tiles, Out* out) {
  extern __shared__ float4 shared[];
  Tile<kDim, kVDim>& tile = *reinterpret_cast<Tile<kDim, kVDim>*>(shared);
  const int x = threadIdx.x % kSide, y = threadIdx.x / kSide;
  // The tiles with most keys come first, so that the multiprocessors end together.
  const int64_t per_tile = n_chunks * a.n_heads, index = blockIdx.x, rest = index % per_tile;
  const int64_t q0 = (n_tiles - 1 - index / per_tile) * kQueries;  // within the chunk
  const int64_t start = rest / a.n_heads * a.chunk, head = rest % a.n_heads, kv_head = head / a.group;
  const int64_t length = min(a.chunk, a.n_tokens - start);
  if (q0 >= length) return;  // the last chunk is shorter
  const int64_t p0 = a.past + q0, n_keys = a.past + length;

  load_rows<kDim, kDim + kPad, kThreads>(tile.q, kQueries,
                                         a.q.data + (start + q0) * a.q.stride + head * a.q.head_stride,
                                         a.q.stride, length - q0, a.dim);
  float m[kRows], l[kRows], o[kRows][kVDim / kSide];
  for (int i = 0; i < kRows; ++i) {
    // m does not begin at -infinity: a query may see no key of the first tiles. A sink that is NaN stays NaN.
    const float sink = a.sinks ? a.sinks[head] : -FLT_MAX;
    m[i] = sink < -FLT_MAX ? -FLT_MAX : sink;
    l[i] = a.sinks ? 1 : 0;
    for (int c = 0; c < kVDim / kSide; ++c) o[i][c] = 0;
  }

  const int64_t end = min(p0 + kQueries, n_keys);
  for (int64_t k0 = max(p0 - a.window + 1, int64_t(0)) / kKeys * kKeys; k0 < end; k0 += kKeys) {
    __syncthreads();  // nobody reads the previous tiles any more
    load_rows<kDim, kDim + kPad, kThreads>(tile.k, kKeys,
                                           a.k.data + (start + k0) * a.k.stride + kv_head * a.k.head_stride,
                                           a.k.stride, n_keys - k0, a.dim);
    load_rows<kVDim, kVDim, kThreads>(tile.v, kKeys,
                                      a.v.data + (start + k0) * a.v.stride + kv_head * a.v.head_stride,
                                      a.v.stride, n_keys - k0, a.v_dim);
    __syncthreads();
    float s[kRows][kColumns];
    scores(tile, y, x, s);
    if (a.softcap > 0) {
      for (int i = 0; i < kRows; ++i)
        for (int j = 0; j < kColumns; ++j)
          s[i][j] = a.softcap * tanhf(s[i][j] * a.scale / a.softcap) / a.scale;
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int64_t query = p0 + y * kRows + i;
      float top = m[i];
      for (int j = 0; j < kColumns; ++j) {
        const uint64_t back = uint64_t(query - (k0 + x + j * kSide));  // a later key wraps beyond any window
        s[i][j] = back < uint64_t(a.window) ? s[i][j] * a.scale : -INFINITY;
        top = fmaxf(top, s[i][j]);
      }
      top = row_max(top);
      const float shrink = expf(m[i] - top);
      float sum = 0;
      for (int j = 0; j < kColumns; ++j) {
        const float p = expf(s[i][j] - top);
        tile.p[y * kRows + i][x + j * kSide] = p;
        sum += p;
      }
      m[i] = top;
      l[i] = l[i] * shrink + row_sum(sum);
      for (int c = 0; c < kVDim / kSide; ++c) o[i][c] *= shrink;
    }
    __syncwarp();  // the warp that wrote P reads it
    add_values(tile, y, x, o);
  }

  for (int i = 0; i < kRows; ++i) {
    const int64_t query = q0 + y * kRows + i;
    if (query >= length) continue;
    Out* row = out + ((start + query) * a.n_heads + head) * a.v_dim;
    const float* gate =
        a.gate.data ? a.gate.data + (start + query) * a.gate.stride + head * a.gate.head_stride : nullptr;
    for (int c = 0; c < kVDim / kSide; ++c) {
      const int column = x + c * kSide;
      if (column >= a.v_dim) continue;
      float result = o[i][c] / l[i];
      if (gate) result /= 1.0f + expf(-gate[column]);
      store(row + column, result);
    }
  }
}

/// Calls launch(n_chunks, n_tiles, blocks, out) for tiles of `queries` queries.
template <class Launch>
void with_tiles(const AttentionProblem& a, int queries, const Launch& launch) {
  const int64_t n_chunks = (a.n_tokens + a.chunk - 1) / a.chunk;
  const int64_t n_tiles = (std::min(a.chunk, a.n_tokens) + queries - 1) / queries;
  const int64_t blocks = n_chunks * a.n_heads * n_tiles;
  check(blocks <= INT32_MAX && a.past + a.chunk <= INT32_MAX, "attention: too many tiles");
  with_type(a.out_type, [&](auto* out_type) {
    using Out = std::remove_pointer_t<decltype(out_type)>;
    launch(n_chunks, n_tiles, unsigned(blocks), static_cast<Out*>(a.out));
  });
  check_launch("attention");
}

template <class Kernel>
void allow_shared(Kernel kernel, int bytes) {
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "attention: shared memory of a multiprocessor");
}

template <int kDim, int kVDim>
void launch(const AttentionProblem& a, const Stream& stream) {
  static_assert(kDim % 4 == 0 && kVDim % kSide == 0);
  constexpr int kBytes = int(sizeof(Tile<kDim, kVDim>));
  with_tiles(a, kQueries, [&](int64_t n_chunks, int64_t n_tiles, unsigned blocks, auto* out) {
    const auto kernel = attention_kernel<kDim, kVDim, std::remove_pointer_t<decltype(out)>>;
    allow_shared(kernel, kBytes);
    kernel<<<blocks, kThreads, kBytes, raw(stream)>>>(a, n_chunks, n_tiles, out);
  });
}

template <int kDim, int kVDim>
void launch_tensor(const AttentionProblem& a, const Stream& stream) {
  using Tile = TensorTile<kDim, kVDim>;
  static_assert(kDim % 8 == 0 && kVDim % 16 == 0);
  constexpr int kBytes = int(sizeof(Tile));
  with_tiles(a, Tile::kQueries, [&](int64_t n_chunks, int64_t n_tiles, unsigned blocks, auto* out) {
    const auto kernel = tensor_attention_kernel<kDim, kVDim, std::remove_pointer_t<decltype(out)>>;
    allow_shared(kernel, kBytes);
    kernel<<<blocks, Tile::kThreads, kBytes, raw(stream)>>>(a, n_chunks, n_tiles, out);
  });
}

struct Compiled {
  int64_t dim, v_dim;
  void (*launch)(const AttentionProblem&, const Stream&);
};
constexpr Compiled kTensorOnes[] = {
    {64, 64, launch_tensor<64, 64>},     {80, 80, launch_tensor<80, 80>},
    {96, 96, launch_tensor<96, 96>},     {128, 128, launch_tensor<128, 128>},
    {256, 256, launch_tensor<256, 256>}, {128, 64, launch_tensor<128, 64>},
    {192, 128, launch_tensor<192, 128>},
};
constexpr Compiled kGeneralOnes[] = {
    {32, 32, launch<32, 32>},
    {128, 128, launch<128, 128>},
    {256, 256, launch<256, 256>},
};

}  // namespace

bool attention_supported(int64_t dim, int64_t v_dim) {
  return dim > 0 && v_dim > 0 && std::max(dim, v_dim) <= kMaxAttentionDim;
}

void attention(const AttentionProblem& a, const Stream& stream) {
  check(attention_supported(a.dim, a.v_dim), "attention: head dimension");
  check(a.n_tokens >= 0 && a.chunk > 0 && a.n_heads > 0 && a.group > 0 && a.n_heads % a.group == 0,
        "attention: shape");
  check(a.q.data && a.k.data && a.v.data && a.out, "attention: arrays");
  check(a.window >= 0 && a.softcap >= 0, "attention: window and cap");
  check(a.past == 0 || (a.past > 0 && a.n_tokens <= a.chunk), "attention: a past of one chunk");
  if (a.n_tokens == 0) return;
  AttentionProblem problem = a;
  if (problem.window == 0) problem.window = INT64_MAX;
  for (const Compiled& c : kTensorOnes)
    if (c.dim == a.dim && c.v_dim == a.v_dim && a.softcap == 0) return c.launch(problem, stream);
  for (const Compiled& c : kGeneralOnes)
    if (c.dim >= a.dim && c.v_dim >= a.v_dim) return c.launch(problem, stream);
}

}  // namespace blockgtq::cuda
