// Keys and values become tiles (prefill_pass.cuh): packed ones are turned back into the model's basis, exact
// ones and the chunk's own are copied.
//
//   key    k = r B_k c[code] + R_t mean        (positions, D) = c (positions, places) B_k^T (places, D)
//   value  v = r B_v c[code] + mean            (D, positions) = B_v (D, places) c^T (places, positions)
//
// Where values have centres, the mean is that of the position's number. The mean is left out where a position
// keeps it, as the sign of its norm says. Results are rounded once, to fp16.
//
// Grid: tiles of the prefix and of the chunk; keys and then values of all heads; sequences. A block makes one
// tile of keys or of values. Its warps unpack one slab each at a time into shared memory (packed_tiles.cuh,
// trellis_tiles.cuh). Then they multiply, each for kColumns coordinates, and put the tile together where the
// operands were. It goes out in one piece. Of 16 x 8 numbers a lane has two neighbours of a row, and the
// eight rows are in different banks.
//
// Bytes: 4 D written per position, a fifth to a third of it read; 4 D^2 operations on the tensor cores.
#include "cache/exact_page.h"
#include "kernels/cache/packed_tiles.cuh"
#include "kernels/cache/prefill_pass.cuh"
#include "kernels/cache/trellis_tiles.cuh"
#include "kernels/device/launch.cuh"

namespace blockgtq::cuda {
namespace {

template <int kDim>
constexpr int kColumns = kDim % 32 == 0 ? 32 : 16;  // coordinates of a warp
template <int kDim>
constexpr int kLayWarps = kDim / kColumns<kDim>;
template <int kDim>
constexpr int kLayBlocks = 16 / kLayWarps<kDim>;  // per multiprocessor, at 128 registers

struct LayArguments {
  PrefillPass pass;
  PackedLayer layer;
  int bits[2];          // of trellis codes of keys and of values
  const int8_t* bytes;  // TrellisLayer::bytes
};

/// Stores two neighbours of a row of a tile's keys or values.
__device__ inline void put(unsigned char* tile, int row, int column, uint32_t both) {
  *reinterpret_cast<uint32_t*>(tile + column / 64 * kChunkBytes + place_of(row, column % 64 / 8) +
                               column % 8 * 2) = both;
}
/// Stores a 16 x 16 square, which is held as the A operand of mma.m16n8k16.
__device__ inline void put_square(unsigned char* tile, int row, int column, uint4 x) {
  const int r = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
  put(tile, row + r, column + 2 * c, x.x);
  put(tile, row + 8 + r, column + 2 * c, x.y);
  put(tile, row + r, column + 8 + 2 * c, x.z);
  put(tile, row + 8 + r, column + 8 + 2 * c, x.w);
}

/// R_t mean, at this lane's coordinates among those of its warp.
template <int kDim>
struct TurnedMean {
  static constexpr int kCount = kColumns<kDim> / 8;
  float2 turn[kCount][2];  // cos, and sin with the sign
  int other[kCount][2];
  const float* rows;  // (64, D)
  __device__ TurnedMean(const PackedLayer& layer, int kv_head, int64_t page, int first) {
    rows = layer.key_rows + int64_t(kv_head) * kPagePositions * kDim;
    const float2* angles = reinterpret_cast<const float2*>(layer.page_angles) + page * (kDim / 2);
#pragma unroll
    for (int n = 0; n < kCount; ++n)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const MeanCoordinate d = layer.coordinates[first + 8 * n + j];
        const float2 angle = angles[d.block];
        turn[n][j] = {angle.x, angle.y * d.sign};
        other[n][j] = d.other;
      }
  }
  /// At coordinate first + 8 n + j, which is d.
  __device__ float at(int position, int n, int j, int d) const {
    const float* row = rows + position * kDim;
    return row[d] * turn[n][j].x + row[other[n][j]] * turn[n][j].y;
  }
};

template <int kDim, bool kTrellis>
__device__ void expand_key_tile(const LayArguments& a, const uint8_t* table, const uint8_t* block,
                                int kv_head, int page, int valid, uint4* shared, float* norms) {
  const PackedLayer& layer = a.layer;
  constexpr int kBlocks = kColumns<kDim> / 16;
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4;
  for (int slab = warp; slab < t.key_slabs; slab += kLayWarps<kDim>)
    if constexpr (kTrellis)
      expand_trellis<kDim>(slab, block, a.bits[0], true, a.bytes, shared);
    else
      expand_keys(slab, block, table, valid, shared);
  if (warp == 0) expand_norms(block + t.key_norms, t.group_norms, valid, norms);
  __syncthreads();
  float y[4][2 * kBlocks][4] = {};
  const uint4* map = static_cast<const uint4*>(layer.key_expand) +
                     (int64_t(kv_head) * (kDim / 16) + warp * kBlocks) * layer.key_slabs * 32 + lane;
#pragma unroll 2
  for (int slab = 0; slab < t.key_slabs; ++slab) {
    uint4 m[kBlocks];
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) m[b] = __ldg(map + (b * layer.key_slabs + slab) * 32);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 x = shared[(4 * slab + i) * 32 + lane];
      const uint32_t operand[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        mma(y[i][2 * b], operand, m[b].x, m[b].y);
        mma(y[i][2 * b + 1], operand, m[b].z, m[b].w);
      }
    }
  }
  __syncthreads();
  unsigned char* const tile = reinterpret_cast<unsigned char*>(shared);
  const int first = warp * kColumns<kDim> + 2 * c;
  const auto finish = [&](const auto& mean) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int position = 16 * i + 8 * h + r;
        const float norm = fabsf(norms[position]) * t.query_scale;
        const bool keeps = signbit(norms[position]);
#pragma unroll
        for (int n = 0; n < 2 * kBlocks; ++n) {
          const auto at = [&](int j) {
            return y[i][n][2 * h + j] * norm + (keeps ? 0.0f : mean(position, n, j));
          };
          put(tile, position, first + 8 * n, position < valid ? pack2(at(0), at(1)) : 0);
        }
      }
  };
  if (layer.key_rows) {
    const TurnedMean<kDim> mean(layer, kv_head, page, first);
    finish([&](int position, int n, int j) { return mean.at(position, n, j, first + 8 * n + j); });
  } else {
    finish([](int, int, int) { return 0.0f; });
  }
}

template <int kDim, bool kTrellis>
__device__ void expand_value_tile(const LayArguments& a, const uint8_t* table, const uint8_t* block,
                                  int kv_head, int valid, uint4* shared, float* norms) {
  const PackedLayer& layer = a.layer;
  constexpr int kBlocks = kColumns<kDim> / 16;
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4;
  for (int slab = warp; slab < t.value_slabs; slab += kLayWarps<kDim>)
    if constexpr (kTrellis)
      expand_trellis<kDim>(slab, block + trellis_side_bytes(kDim, a.bits[0]), a.bits[1], false,
                           a.bytes + kTrellisStates, shared);
    else
      expand_values(slab, block, table, shared);
  if (warp == 0) expand_norms(block + t.value_norms, false, valid, norms);
  __syncthreads();
  float y[kBlocks][8][4] = {};
  const uint4* map = static_cast<const uint4*>(layer.value_expand) +
                     (int64_t(kv_head) * (kDim / 16) + warp * kBlocks) * layer.value_slabs * 32 + lane;
#pragma unroll 2
  for (int slab = 0; slab < t.value_slabs; ++slab) {
    uint4 m[kBlocks];
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) m[b] = __ldg(map + (b * layer.value_slabs + slab) * 32);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 x = shared[(4 * slab + i) * 32 + lane];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        const uint32_t operand[4] = {m[b].x, m[b].y, m[b].z, m[b].w};
        mma(y[b][2 * i], operand, x.x, x.y);
        mma(y[b][2 * i + 1], operand, x.z, x.w);
      }
    }
  }
  __syncthreads();
  unsigned char* const tile = reinterpret_cast<unsigned char*>(shared);
  const auto finish = [&](const auto& mean) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int d = warp * kColumns<kDim> + 16 * b + 8 * h + r;
        const auto of_row = mean(d);
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          const int position = 8 * n + 2 * c;
          const auto at = [&](int j) {
            const float norm = norms[position + j];
            return position + j < valid
                       ? y[b][n][2 * h + j] * fabsf(norm) + (signbit(norm) ? 0.0f : of_row(position + j))
                       : 0.0f;
          };
          put(tile, d, position, pack2(at(0), at(1)));
        }
      }
  };
  if (const ValueCentres& centres = layer.centres; centres.n > 0) {
    const float* const rows = centres.rows + int64_t(kv_head) * centres.n * kDim;
    finish([&](int d) {
      return [=](int position) {
        const int number = block[t.value_centres + centre_place(position)];
        return number < centres.n ? rows[number * kDim + d] : 0.0f;
      };
    });
  } else {
    finish([&](int d) {
      const float mean = layer.value_mean ? layer.value_mean[kv_head * kDim + d] : 0.0f;
      return [=](int) { return mean; };
    });
  }
}

/// Copies a tile of an exact page, which consists of such squares already (cache/exact_page.h).
template <int kDim>
__device__ void lay_exact(const uint8_t* block, bool keys, int valid, unsigned char* tile) {
  constexpr int kSlabs = kDim / 16;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  for (int i = threadIdx.x / 32; i < kPageParts * kSlabs; i += kLayWarps<kDim>) {
    const int part = 16 * (i / kSlabs), slab = 16 * (i % kSlabs);
    uint4 x = *reinterpret_cast<const uint4*>(block + i / kSlabs * exact_part_bytes(kDim) +
                                              (i % kSlabs + (keys ? 0 : kSlabs)) * 512 + lane * 16);
    if (part + 16 > valid) {  // memory behind the last position may hold anything
      if (keys) {
        const uint32_t near = part + r < valid ? kAll : 0, far = part + 8 + r < valid ? kAll : 0;
        x = {x.x & near, x.y & far, x.z & near, x.w & far};
      } else {
        const auto keep = [&](int position) {
          return (position < valid ? 0xffffu : 0u) | (position + 1 < valid ? 0xffff0000u : 0u);
        };
        const uint32_t near = keep(part + 2 * c), far = keep(part + 8 + 2 * c);
        x = {x.x & near, x.y & near, x.z & far, x.w & far};
      }
    }
    put_square(tile, keys ? part : slab, keys ? slab : part, x);
  }
}

/// Copies 64 tokens of the chunk, with zeros behind the last.
template <int kDim>
__device__ void lay_chunk(const PrefillPass& a, int kv_head, int sequence, int first, bool keys,
                          unsigned char* tile) {
  constexpr int kSlabs = kDim / 16;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const int64_t stride = int64_t(a.n_kv_heads) * kDim;
  const __half* const from =
      (keys ? a.k : a.v) + int64_t(sequence) * a.tokens * stride + kv_head * kDim + 2 * c;
  for (int i = threadIdx.x / 32; i < kPageParts * kSlabs; i += kLayWarps<kDim>) {
    const int part = 16 * (i / kSlabs), slab = 16 * (i % kSlabs), near = first + part + r, far = near + 8;
    const auto word = [&](int token, int d) {
      return token < a.tokens ? *reinterpret_cast<const uint32_t*>(from + token * stride + d) : 0u;
    };
    const uint4 x = {word(near, slab), word(far, slab), word(near, slab + 8), word(far, slab + 8)};
    if (keys)
      put_square(tile, part, slab, x);
    else
      put_square(tile, slab, part, {transpose8(x.x), transpose8(x.z), transpose8(x.y), transpose8(x.w)});
  }
}

template <int kDim, bool kTrellis>
__global__ void __launch_bounds__(32 * kLayWarps<kDim>, kLayBlocks<kDim>)
    lay_kernel(const LayArguments arguments) {
  constexpr int kWords =
      (kDim / 16 + 1) * 128 > key_tile_bytes(kDim) / 16 ? (kDim / 16 + 1) * 128 : key_tile_bytes(kDim) / 16;
  __shared__ __align__(128) uint4 shared[kWords];
  __shared__ float norms[kPagePositions];
  const PrefillPass& a = arguments.pass;
  const PackedLayer& layer = arguments.layer;
  const bool keys = int(blockIdx.y) < a.n_kv_heads;
  const int kv_head = blockIdx.y % a.n_kv_heads, sequence = blockIdx.z;
  const int64_t head = int64_t(sequence) * a.n_kv_heads + kv_head;
  unsigned char* const tile = reinterpret_cast<unsigned char*>(shared);
  uint8_t* to;
  if (int(blockIdx.x) < a.room) {
    const Prefix prefix(a, sequence);
    const int n = a.first_tile + blockIdx.x, valid = prefix.valid(n);
    if (n >= (prefix.tiles() + 1) / 2 * 2) return;
    to = a.prefix + (head * a.room + blockIdx.x) * tile_bytes(kDim);
    if (valid == 0) {  // one tile more, so that their number is even
      for (int i = threadIdx.x; i < kWords; i += blockDim.x) shared[i] = uint4{};
    } else if (n < prefix.packed_tiles) {
      const int page = a.first_page + n;
      const uint8_t* const table = layer.tables + int64_t(kv_head) * layer.table_bytes;
      const uint8_t* const block =
          a.packed.pages + a.packed.block_table[sequence * a.packed.stride + page] * layer.page_bytes +
          reinterpret_cast<const PackedTable*>(table)->block_offset;
      if (keys)
        expand_key_tile<kDim, kTrellis>(arguments, table, block, kv_head, page, valid, shared, norms);
      else
        expand_value_tile<kDim, kTrellis>(arguments, table, block, kv_head, valid, shared, norms);
    } else {
      const int page = a.exact.block_table[sequence * a.exact.stride + n - prefix.packed_tiles];
      lay_exact<kDim>(a.exact.pages + page * exact_page_bytes(a.n_kv_heads, kDim) +
                          int64_t(kv_head) * exact_block_bytes(kDim),
                      keys, valid, tile);
    }
  } else {
    const int n = blockIdx.x - a.room;
    to = a.chunk + (head * a.chunk_tiles + n) * tile_bytes(kDim);
    lay_chunk<kDim>(a, kv_head, sequence, n * kPagePositions, keys, tile);
  }
  __syncthreads();
  uint4* const out = reinterpret_cast<uint4*>(to + (keys ? 0 : key_tile_bytes(kDim)));
  for (int i = threadIdx.x; i < (keys ? key_tile_bytes(kDim) : value_tile_bytes(kDim)) / 16; i += blockDim.x)
    out[i] = shared[i];
}

}  // namespace

void lay_tiles(const PrefillPass& pass, const PackedLayer* packed, const TrellisLayer* trellis,
               const Stream& stream) {
  const dim3 grid(pass.room + (pass.last ? pass.chunk_tiles : 0), 2 * pass.n_kv_heads, pass.batch);
  if (grid.x == 0) return;
  LayArguments a{pass, packed ? *packed : PackedLayer{}, {}, nullptr};
  with_dim(pass.dim, [&](auto dim) {
    const auto launch = [&](auto kernel) { kernel<<<grid, 32 * kLayWarps<dim.value>, 0, raw(stream)>>>(a); };
    if (!trellis) return launch(lay_kernel<dim.value, false>);
    if constexpr (has_trellis_page(dim.value, 2)) {
      a.bits[0] = trellis->key_bits, a.bits[1] = trellis->value_bits;
      a.bytes = trellis->bytes;
      launch(lay_kernel<dim.value, true>);
    } else {
      check(false, "tiles of trellis pages: head dimension");
    }
  });
  check_launch("tiles of a prefix");
}

}  // namespace blockgtq::cuda
