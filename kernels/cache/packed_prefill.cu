// Attention of a chunk of new tokens over a packed prefix, then over itself.
//
//   prefix  s = scale (B^T q) . (r c[code] + F R_t mean),  o = B_v (sum_t p_t r_t c[code]) / l + mean_v
//   chunk   s = scale q . k,  causal
//
// One softmax runs over both: when the prefix ends, o is turned back by B_v into plain coordinates, keeps its
// weight l, and goes on over exact keys and values. No split, no merge.
//
// Grid: rows, KV heads, sequences. A row is a (token, head of the group) pair of one KV head, so that the
// group shares what is unpacked. A block of W warps owns 16 kTiles W rows. 64 positions at a time: codes
// arrive in shared memory asynchronously two pages ahead; the warps expand a page, a slab each at a time,
// into a tile of fp16 operands (packed_tiles.cuh); every warp multiplies its rows with the tile, as
// FlashAttention-2 does, in registers from one product to the other. There are two tiles, and between two
// barriers half of the warps expand the next one before they multiply, half after: the tensor cores and the
// other pipes have work at the same time. What is expanded costs no less for few rows: W and kTiles are as
// large as fill the device. Blocks of few rows have four more warps, which do nothing but expand.
//
// Scores take the norms of keys where they have one each and no mean; else tiles do (packed_tiles.cuh). The
// mean of centred keys enters in the quantizer's coordinates, F R_t mean, added to the norm times the
// centroid where a page is expanded: B F = 1, so that q . R_t mean = (B^T q) . (F R_t mean). It depends on
// the position and the KV head only; prepare_kernel makes it once for all rows and sequences. It also turns
// the queries, and brings the chunk's keys and values into the order of a tile.
//
// Work: 4 D per row and position on the tensor cores; 2 D codes to expand per block and position.
#include <algorithm>

#include "kernels/cache/packed_prefill.cuh"
#include "kernels/cache/packed_prefill.h"
#include "kernels/device/launch.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kMostRowTiles = 16;  // of a block

constexpr int kNormWords = kPagePositions / 4;  // of a tile, behind keys and values

/// Where the parts of shared memory begin; the table comes first.
struct SharedPlan {
  int queries, tiles, stages, bytes;
};
template <int kDim>
__host__ __device__ SharedPlan shared_plan(const PrefillArguments& a, int row_tiles) {
  SharedPlan p{};
  p.queries = a.layer.table_bytes;
  p.tiles = p.queries + row_tiles * a.layer.key_slabs * 512;
  p.stages = p.tiles + a.buffers * ((a.layer.key_slabs + kDim / 16) * 128 + kNormWords) * 16;
  p.bytes = p.stages + 2 * a.stage_bytes;
  return p;
}

/// n 16-byte words, by all threads.
template <int kThreads>
__device__ inline void copy_words(uint4* to, const uint4* from, int n) {
  for (int i = threadIdx.x; i < n; i += kThreads) copy_line(to + i, from + i);
}

/// Warps that only expand, where there is one block to a multiprocessor and room for them.
constexpr int helpers(int warps) {
  return warps < 8 ? 4 : 0;
}

/// kTiles x 16 rows for each of kWarps.
template <int kDim, int kTiles, int kWarps>
__global__ void __launch_bounds__(32 * (kWarps + helpers(kWarps)), 1)
    prefill_kernel(const PrefillArguments a) {
  constexpr int kSlabs = kDim / 16, kThreads = 32 * (kWarps + helpers(kWarps)), kRowTiles = kTiles * kWarps;
  constexpr int kExpanders = helpers(kWarps) > 0 ? helpers(kWarps) : kWarps;  // the last warps
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4;
  const int kv_head = blockIdx.y, sequence = blockIdx.z;
  const int first_tile = (gridDim.x - 1 - blockIdx.x) * kRowTiles;  // the longest first
  const int first_row = 16 * (first_tile + warp * kTiles);          // of this warp
  const int first_token = first_row / a.group;
  const int last_token = min((first_row + 16 * kTiles - 1) / a.group, a.tokens - 1);
  const int expander = warp - (kThreads / 32 - kExpanders);     // negative: this warp does not expand
  const bool idle = warp >= kWarps || first_token >= a.tokens;  // no rows, or rows behind the last
  const SharedPlan plan = shared_plan<kDim>(a, kRowTiles);
  const uint8_t* const table = shared;
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(shared);
  uint4* const queries = reinterpret_cast<uint4*>(shared + plan.queries);
  uint4* const tiles = reinterpret_cast<uint4*>(shared + plan.tiles);
  const int value_words = a.layer.key_slabs * 128, norm_words = value_words + kSlabs * 128,
            tile_words = norm_words + kNormWords;
  const int64_t place = (int64_t(sequence) * a.layer.n_kv_heads + kv_head) * a.row_tiles + first_tile;
  const int length = a.cache.lengths[sequence], n_pages = (length + kPagePositions - 1) / kPagePositions;

  RowState<kDim, kTiles> state;
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) state.m[m][h] = -1e30f, state.l[m][h] = 0;
  const auto tile_of = [&](int n) { return tiles + (a.buffers == 2 ? n % 2 : 0) * tile_words; };

  if (n_pages > 0) {
    const uint8_t* const from = a.layer.tables + int64_t(kv_head) * a.layer.table_bytes;
    const int block_offset = reinterpret_cast<const PackedTable*>(from)->block_offset;
    const int block_bytes = reinterpret_cast<const PackedTable*>(from)->block_bytes;
    const int32_t* const ids = a.cache.block_table + sequence * a.cache.stride;
    const auto load = [&](int page, int id) {
      if (page < n_pages)
        copy_words<kThreads>(
            reinterpret_cast<uint4*>(shared + plan.stages + page % 2 * a.stage_bytes),
            reinterpret_cast<const uint4*>(a.cache.pages + id * a.layer.page_bytes + block_offset),
            block_bytes / 16);
      close_group();
    };
    const int slabs = a.layer.key_slabs;
    const uint4* const mean = a.mean ? a.mean + int64_t(kv_head) * a.pages * value_words : nullptr;
    const auto expand = [&](int page) {
      const uint8_t* block = shared + plan.stages + page % 2 * a.stage_bytes;
      const int valid = length - page * kPagePositions;
      const bool apart = !mean && !t.group_norms;
      for (int i = expander; i < t.key_slabs + t.value_slabs + apart; i += kExpanders)
        if (i < t.key_slabs)
          expand_keys(i, block, table, valid, mean ? mean + int64_t(page) * value_words : nullptr, apart,
                      tile_of(page));
        else if (i < t.key_slabs + t.value_slabs)
          expand_values(i - t.key_slabs, block, table, valid, tile_of(page) + value_words);
        else
          expand_norms(block, table, valid, reinterpret_cast<float*>(tile_of(page) + norm_words));
    };
    copy_words<kThreads>(reinterpret_cast<uint4*>(shared), reinterpret_cast<const uint4*>(from),
                         a.layer.table_bytes / 16);
    copy_words<kThreads>(queries, a.turned + place * slabs * 32, kRowTiles * slabs * 32);
    load(0, ids[0]);
    load(1, n_pages > 1 ? ids[1] : 0);
    int next_id = n_pages > 2 ? ids[2] : 0;
    wait_for_groups<1>();
    // Slabs that this head has not: no garbage in the products.
    for (int i = threadIdx.x; i < a.buffers * tile_words; i += kThreads) tiles[i] = uint4{};
    __syncthreads();
    if (expander >= 0) expand(0);
    const float factor = fmaxf(a.scale * t.query_scale, 1e-30f);
    int last[kTiles][2];
#pragma unroll
    for (int m = 0; m < kTiles; ++m) last[m][0] = last[m][1] = length - 1;
    // With one tile all warps multiply first.
    const int expand_in = a.buffers == 2 ? warp / 4 % 2 : 1;
#pragma unroll 1
    for (int n = 0; n < n_pages; ++n) {
      wait_for_groups<0>();
      __syncthreads();  // tile n and codes n + 1 are there; codes n and tile n - 1 are not needed any more
      load(n + 2, next_id);
      next_id = n + 3 < n_pages ? ids[n + 3] : 0;
#pragma unroll 1
      for (int phase = 0; phase < 2; ++phase) {
        if (phase == expand_in) {
          if (a.buffers == 1) __syncthreads();
          if (n + 1 < n_pages && expander >= 0) expand(n + 1);
        } else if (!idle) {
          const uint4* tile = tile_of(n) + lane;
          const float2* norms =
              mean || t.group_norms ? nullptr : reinterpret_cast<const float2*>(tile_of(n) + norm_words);
          attend<kDim, kTiles>(state, queries + warp * kTiles * slabs * 32 + lane, slabs, tile,
                               tile + value_words, norms, factor, n * kPagePositions, last, n + 1 == n_pages);
        }
      }
    }
    if (!idle) turn_back<kDim, kTiles>(state, a.layer, table, kv_head);
    __syncthreads();  // queries and tiles are free
  }

  const auto load_chunk = [&](int n, int n_tiles) {
    if (n < n_tiles) {
      const uint4* from = a.chunk + ((int64_t(sequence) * a.layer.n_kv_heads + kv_head) * a.chunk_tiles + n) *
                                        2 * kSlabs * 128;
      copy_words<kThreads>(tile_of(n), from, kSlabs * 128);
      copy_words<kThreads>(tile_of(n) + value_words, from + kSlabs * 128, kSlabs * 128);
    }
    close_group();
  };
  const int block_last = min((16 * (first_tile + kRowTiles) - 1) / a.group, a.tokens - 1);
  const int n_tiles = block_last / kPagePositions + 1;
  copy_words<kThreads>(queries, a.plain + place * kSlabs * 32, kRowTiles * kSlabs * 32);
  load_chunk(0, n_tiles);
  int last[kTiles][2];
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) last[m][h] = (first_row + 16 * m + 8 * h + r) / a.group;
#pragma unroll 1
  for (int n = 0; n < n_tiles; ++n) {
    wait_for_groups<0>();
    __syncthreads();
    if (a.buffers == 2) load_chunk(n + 1, n_tiles);
    if (!idle && n * kPagePositions <= last_token) {
      const uint4* tile = tile_of(n) + lane;
      attend<kDim, kTiles>(state, queries + warp * kTiles * kSlabs * 32 + lane, kSlabs, tile,
                           tile + value_words, nullptr, fmaxf(a.scale, 1e-30f), n * kPagePositions, last,
                           n * kPagePositions + kPagePositions - 1 > first_token);
    }
    if (a.buffers == 1) {
      __syncthreads();
      load_chunk(n + 1, n_tiles);
    }
  }
  if (idle) return;
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float inverse = 1 / row_sum(state.l[m][h]);
      const int row = first_row + 16 * m + 8 * h + r;
      if (last[m][h] >= a.tokens) continue;
      __half* out = a.out +
                    ((int64_t(sequence) * a.tokens + last[m][h]) * a.layer.n_heads + kv_head * a.group +
                     row % a.group) *
                        kDim +
                    2 * c;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n)
        *reinterpret_cast<uint32_t*>(out + 8 * n) =
            pack2(state.o[m][n][2 * h] * inverse, state.o[m][n][2 * h + 1] * inverse);
    }
}

/// Scratch and whatever does not depend on the number of rows of a block.
PrefillArguments make_arguments(const PrefillAttention& chunk, void* scratch, int64_t& bytes) {
  const PackedLayer& layer = *chunk.layer;
  const auto tiles = [](int64_t n, int64_t each) { return (n + each - 1) / each; };
  PrefillArguments a{};
  a.layer = layer;
  a.cache = chunk.cache;
  a.q = static_cast<const __half*>(chunk.q);
  a.k = static_cast<const __half*>(chunk.k);
  a.v = static_cast<const __half*>(chunk.v);
  a.out = static_cast<__half*>(chunk.out);
  a.scale = chunk.scale * kLog2e;
  a.batch = chunk.batch;
  a.tokens = int(chunk.tokens);
  a.group = layer.n_heads / layer.n_kv_heads;
  a.row_tiles = int(tiles(chunk.tokens * a.group, 16 * kMostRowTiles) * kMostRowTiles);
  a.chunk_tiles = int(tiles(chunk.tokens, kPagePositions));
  a.pages = int(tiles(chunk.longest, kPagePositions));
  a.stage_bytes = layer.block_bytes;
  const int64_t heads = int64_t(chunk.batch) * layer.n_kv_heads, slabs = layer.dim / 16;
  uint4* at = static_cast<uint4*>(scratch);
  const auto take = [&](int64_t words) {
    uint4* const here = at;
    if (at) at += words;
    bytes += words * 16;
    return here;
  };
  a.turned = take(heads * a.row_tiles * layer.key_slabs * 32);
  a.plain = take(heads * a.row_tiles * slabs * 32);
  a.chunk = take(heads * a.chunk_tiles * 2 * slabs * 128);
  if (layer.mean_forward && a.pages > 0)
    a.mean = take(int64_t(layer.n_kv_heads) * a.pages * layer.key_slabs * 128);
  return a;
}

/// False where there is no room, or (unless `any`) half of the device or more would have nothing to do.
template <int kDim, int kTiles, int kWarps>
bool launch(PrefillArguments a, bool any, const Stream& stream) {
  constexpr int kRows = 16 * kTiles * kWarps;
  const int64_t blocks = (int64_t(a.tokens) * a.group + kRows - 1) / kRows;
  const int sms = attribute(cudaDevAttrMultiProcessorCount);
  if (!any && 2 * blocks * a.layer.n_kv_heads * a.batch <= sms) return false;
  const int room = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  for (a.buffers = 2; a.buffers > 0; --a.buffers) {
    const int bytes = shared_plan<kDim>(a, kTiles * kWarps).bytes;
    if (bytes > room) continue;
    const auto kernel = prefill_kernel<kDim, kTiles, kWarps>;
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               "shared memory");
    kernel<<<dim3(unsigned(blocks), a.layer.n_kv_heads, a.batch), 32 * (kWarps + helpers(kWarps)), bytes,
             raw(stream)>>>(a);
    check_launch("prefill attention");
    return true;
  }
  return false;
}

template <int kDim>
void prefill(const PrefillArguments& a, const Stream& stream) {
  const int64_t heads = int64_t(a.batch) * a.layer.n_kv_heads;
  const int64_t jobs =
      heads * (a.row_tiles + 4 * a.chunk_tiles) + (a.mean ? int64_t(a.layer.n_kv_heads) * 4 * a.pages : 0);
  const int64_t most = int64_t(attribute(cudaDevAttrMultiProcessorCount)) * 8;
  prepare_kernel<kDim><<<unsigned(std::min((jobs + 7) / 8, most)), 256, 0, raw(stream)>>>(a);
  check_launch("prefill operands");
  if constexpr (kDim > 128) {  // twice the registers per row
    if (launch<kDim, 1, 4>(a, false, stream) || launch<kDim, 1, 2>(a, true, stream)) return;
  } else {
    if (launch<kDim, 2, 8>(a, false, stream) || launch<kDim, 2, 4>(a, false, stream) ||
        launch<kDim, 1, 4>(a, true, stream))
      return;
  }
  check(false, "prefill_attention: no room for a page");
}

}  // namespace

int64_t prefill_scratch_bytes(const PrefillAttention& chunk) {
  int64_t bytes = 0;
  make_arguments(chunk, nullptr, bytes);
  return bytes;
}

void prefill_attention(const PrefillAttention& chunk, void* scratch, const Stream& stream) {
  check(chunk.layer && chunk.q && chunk.k && chunk.v && chunk.out && scratch && chunk.batch > 0 &&
            chunk.batch <= 65535 && chunk.tokens > 0 && chunk.longest >= 0,
        "prefill_attention: arguments");
  const PackedLayer& layer = *chunk.layer;
  check(layer.n_heads % layer.n_kv_heads == 0 &&
            chunk.tokens * (layer.n_heads / layer.n_kv_heads) < (int64_t(1) << 30),
        "prefill_attention: heads or tokens");
  check(layer.key_slabs >= layer.dim / 16 && layer.value_slabs <= layer.dim / 16,
        "prefill_attention: coordinates");
  int64_t bytes = 0;
  const PrefillArguments a = make_arguments(chunk, scratch, bytes);
  with_dim(layer.dim, [&](auto dim) { prefill<dim.value>(a, stream); });
}

}  // namespace blockgtq::cuda
