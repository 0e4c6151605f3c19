// Attention of rows of queries over tiles, on tensor cores that every device has (mma.m16n8k16).
//
// Grid: blocks of 64 kRowTiles rows, the longest first; KV heads; (sequence, split). There are four warps.
// Each has 16 kRowTiles rows of its own, in registers from one product to the other as in FlashAttention-2. A
// step is a tile. Tiles are copied to shared memory asynchronously, one ahead where there is room for two.
#include <algorithm>

#include "kernels/cache/prefill_rows.cuh"
#include "kernels/device/launch.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kWarps = 4, kThreads = 32 * kWarps;

template <int kDim>
constexpr int kRowTiles = kDim > 128 ? 1 : 2;  // tiles of 16 rows per warp
template <int kDim>
constexpr int kRows = 16 * kWarps* kRowTiles<kDim>;  // rows of a block

/// The address of 16-byte piece `piece` of row `row`. Rows of any length are cut into chunks of 64 numbers.
__device__ inline const unsigned char* piece_at(const unsigned char* chunks, int chunk_bytes, int row,
                                                int piece) {
  return chunks + piece / 8 * chunk_bytes + place_of(row, piece % 8);
}

/// Loads 16 columns of b, which are rows [row, row + 16) in memory, at depth 16 step and on: the words of the
/// first eight columns, then those of the others.
__device__ inline void load_columns(uint32_t (&b)[4], const unsigned char* chunks, int row, int step) {
  const int lane = threadIdx.x % 32;
  load_matrices(b, piece_at(chunks, kChunkBytes, row + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
}

template <int kDim>
struct Warp {
  static constexpr int kTiles = kRowTiles<kDim>;
  float o[kTiles][kDim / 2];
  RowWeights w[kTiles];

  /// Attends to one tile. queries: of the block; first: the warp's first row there.
  template <bool kRuled>
  __device__ __forceinline__ void attend(const PrefillPass& a, const unsigned char* queries, int first,
                                         const unsigned char* tile, const Seen<1, kRuled> (&seen)[kTiles]) {
    const int lane = threadIdx.x % 32;
    float s[kTiles][32] = {};
#pragma unroll 2
    for (int k = 0; k < kDim / 16; ++k) {
      uint32_t q[kTiles][4];
#pragma unroll
      for (int m = 0; m < kTiles; ++m)
        load_matrices(
            q[m], piece_at(queries, kRows<kDim> * kRowBytes, first + 16 * m + lane % 16, 2 * k + lane / 16));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint32_t b[4];
        load_columns(b, tile, 16 * i, k);
#pragma unroll
        for (int m = 0; m < kTiles; ++m)
#pragma unroll
          for (int n = 0; n < 2; ++n)
            mma(*reinterpret_cast<float(*)[4]>(&s[m][4 * (2 * i + n)]), q[m], b[2 * n], b[2 * n + 1]);
      }
    }
    uint32_t p[kTiles][16];
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      float shrink[2];
      if constexpr (kRuled)
        if (a.inner > 0) cap(s[m], a.inner);
      if (!seen[m].whole) hide(s[m], seen[m]);
      weigh(s[m], a.scale, w[m], shrink);
      if (__any_sync(kAll, shrink[0] < 1 || shrink[1] < 1)) shrink_rows(o[m], shrink);
      pack_weights(s[m], p[m]);
    }
    const unsigned char* const values = tile + key_tile_bytes(kDim);
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
      for (int i = 0; i < kDim / 16; ++i) {
        uint32_t b[4];
        load_columns(b, values, 16 * i, k);
#pragma unroll
        for (int m = 0; m < kTiles; ++m)
#pragma unroll
          for (int n = 0; n < 2; ++n)
            mma(*reinterpret_cast<float(*)[4]>(&o[m][4 * (2 * i + n)]),
                *reinterpret_cast<const uint32_t(*)[4]>(&p[m][4 * k]), b[2 * n], b[2 * n + 1]);
      }
  }
};

template <int kDim, bool kRuled>
__global__ void __launch_bounds__(kThreads, 1) mma_kernel(const PrefillPass a, int stages) {
  constexpr int kTiles = kRowTiles<kDim>, kBytes = tile_bytes(kDim);
  constexpr int kQueryBytes = (kDim + 63) / 64 * kRows<kDim> * kRowBytes;
  extern __shared__ __align__(128) unsigned char shared[];
  const int kv_head = blockIdx.y, sequence = blockIdx.z / a.splits, split = blockIdx.z % a.splits;
  const int64_t head = int64_t(sequence) * a.n_kv_heads + kv_head;
  const int block_row = (gridDim.x - 1 - blockIdx.x) * kRows<kDim>, first = threadIdx.x / 32 * 16 * kTiles,
            r = threadIdx.x % 32 / 4;
  const Prefix prefix(a, sequence);
  const Steps<1> steps(a, prefix, block_row, block_row + kRows<kDim> - 1, split);
  const auto load = [&](int step) {
    if (step < steps.last) {
      const uint8_t* from = tile_at(a, head, steps, step, 0, kBytes);
      unsigned char* to = shared + kQueryBytes + (step - steps.first) % stages * kBytes;
      for (int i = threadIdx.x * 16; i < kBytes; i += kThreads * 16) copy_line(to + i, from + i);
    }
    close_group();
  };
  load(steps.first);
  put_queries<kDim, kRows<kDim>, kThreads>(a, sequence, kv_head, block_row, shared);
  Warp<kDim> warp;
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int i = 0; i < kDim / 2; ++i) warp.o[m][i] = 0;
    if (a.first) continue;
    load_weights(a, head, split, block_row + first + 16 * m, warp.w[m]);
    load_rows<kDim>(a, head, split, block_row + first + 16 * m, 0, warp.o[m]);
  }
#pragma unroll 1
  for (int step = steps.first; step < steps.last; ++step) {
    if (stages > 1) {
      load(step + 1);
      wait_for_groups<1>();
    } else {
      wait_for_groups<0>();
    }
    __syncthreads();
    const auto seen = [&](int m) {
      const int row = block_row + first + 16 * m;
      return Seen<1, kRuled>(
          a, prefix, steps, step,
          {row / a.group, (row + 15) / a.group, {(row + r) / a.group, (row + 8 + r) / a.group}});
    };
    const unsigned char* const tile = shared + kQueryBytes + (step - steps.first) % stages * kBytes;
    if constexpr (kTiles == 2)
      warp.template attend<kRuled>(a, shared, first, tile, {seen(0), seen(1)});
    else
      warp.template attend<kRuled>(a, shared, first, tile, {seen(0)});
    __syncthreads();
    if (stages == 1) load(step + 1);
  }
  const bool keep = a.splits > 1 || !a.last;
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
    const int row = block_row + first + 16 * m;
    if (keep) {
      keep_weights(a, head, split, row, warp.w[m]);
      keep_rows<kDim>(a, head, split, row, 0, warp.o[m]);
    } else {
      write_rows<kDim>(a, sequence, kv_head, row, 0, warp.w[m], warp.o[m]);
    }
  }
}

}  // namespace

void attend_by_mma(const PrefillPass& pass, const Stream& stream) {
  with_dim(pass.dim, [&](auto dim) {
    constexpr int kDim = dim.value, kQueryBytes = (kDim + 63) / 64 * kRows<kDim> * kRowBytes;
    const int room = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    const int stages = kQueryBytes + 2 * tile_bytes(kDim) <= room ? 2 : 1;
    const int bytes = kQueryBytes + stages * tile_bytes(kDim);
    check(bytes <= room, "prefill_attention: no room for a tile");
    const auto kernel = pass.ruled() ? mma_kernel<kDim, true> : mma_kernel<kDim, false>;
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               "shared memory");
    kernel<<<dim3(pass.rows / kRows<kDim>, pass.n_kv_heads, pass.batch * pass.splits), kThreads, bytes,
             raw(stream)>>>(pass, stages);
    check_launch("prefill attention");
  });
}

}  // namespace blockgtq::cuda
