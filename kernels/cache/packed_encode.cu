// Encodes new keys and values to codes and norms in pages, in one launch for all heads of a layer.
//
//   z = F (x - R_t mean),  u = z / |z|,  code = nearest centroid of u_j,  norm = |z| / |c|
//
// Where MeanRules says so, z is F x and the sign bit of the first norm is set. Where values have centres,
// find_centres.cu has written which of them to subtract and where to set the sign bit.
//
// Grid: pages in turn, KV heads, keys and values. F of the head is in shared memory.
//
// A warp has a page of its own, takes two tiles of 16 positions at a time and needs no barrier. x goes into
// registers as it lies in memory: lane c of a quad of lanes reads 16 contiguous bytes, which are its elements
// of the operand. Meanwhile the next rows are prefetched into L2. Then it goes slab by slab of 16
// coordinates: product on the tensor cores, codes, eight nibbles. A lane holds just the coordinates whose
// codes make up its words (cache/page_layout.h), so that packing needs no exchange between lanes.
// Neighbouring slabs of one width are a run, within which nothing has to be looked up.
//
// Norms: where F rotates, permutes and scales, F^T F is diagonal, and |z|^2 = sum_d w_d x_d^2 is known before
// any product. Elsewhere (values by KLT) the product is done twice. With one norm x is divided by it,
// otherwise the coordinates of every group are.
//
// Bytes moved: 2 D per key or value in, and its share of the page out; 306 at D = 128 and 3 bits.
//
// Accuracy: F, x - R_t mean and x / |z| are rounded to fp16, 2.1e-4 root mean square each. Up to 4 bits the
// sums of u are rounded after each of D / 16 steps, by 2.1e-4 of what is summed so far. At D = 128 that is
// 5.6e-4 of a coordinate's standard deviation in all. A code flips where a boundary lies that near. The
// probability is 0.8 x 5.6e-4 x the sum of the density at the boundaries (1.7 at 3 bits), 7.8e-4. Two
// centroids are equally near there, so that the distortion stays.
#include <algorithm>

#include "cache/page_layout.h"
#include "kernels/cache/find_centres.h"
#include "kernels/cache/packed_encode.h"
#include "kernels/cache/packed_lengths.cuh"
#include "kernels/cache/packed_rows.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/launch.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kMostSideWords = 128;  // of a lane: 64 positions of 256 coordinates at 8 bits

/// Offsets in shared memory. The tables come first, then F, the weights of |z|^2, and the parts of warps.
struct SharedPlan {
  int forward, weights, warps;
  int nibbles, upper, codes, norms, pieces, warp_bytes;  // within a warp's part
};
__host__ __device__ inline SharedPlan shared_plan(const PackedLayer& layer, const EncodeLayer& encoder,
                                                  int steps) {
  const int slabs = layer.key_slabs > layer.value_slabs ? layer.key_slabs : layer.value_slabs;
  SharedPlan p{};
  p.forward = layer.table_bytes + encoder.table_bytes;
  p.weights = p.forward + slabs * steps * 512;
  p.warps = p.weights + encoder.n_norms * steps * 32;
  p.upper = slabs * 512;
  p.codes = p.upper + (encoder.wide ? slabs * 512 : 0);
  p.norms = p.codes + layer.side_bytes;
  p.pieces = p.norms + encoder.n_norms * 2 * 128;  // 32 positions each: 1 / |z|, then |c|^2
  p.warp_bytes = p.pieces + 2 * sizeof(Piece);
  return p;
}

/// Calls f with the width as an integral_constant.
template <class F>
__device__ __forceinline__ void with_bits(int bits, F f) {
  switch (bits) {
#define CASE(bits) \
  case bits:       \
    return f(std::integral_constant<int, bits>());
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
  }
}

/// What a warp encodes with, all of it in shared memory.
struct Tools {
  const EncodeSide& side;
  const unsigned char* thresholds;  // EncodeGroup's offsets count from here
  const unsigned char* books;       // UnitEntry's offsets count from here
  const UnitEntry* units;           // (slab, quad or pair)
  const uint4* forward;             // this lane's part of (slab, step, 32)
  const __half* weights;
  int n_slabs;
  bool wide;
  uint32_t *low, *high;    // (slab, tile, 32): lower nibbles, and the upper ones of wide codes
  float *inverse, *of_c2;  // (norm, 16 tiles): 1 / |z|, |c|^2
};

/// Encodes the slabs that are in no run: those of several widths, and those that are not full. apart: every
/// group has a norm of its own.
template <bool kKeys, int kSteps>
__device__ __forceinline__ void encode_mixed(const TileRows<kSteps>& x, const Tools& t, int first, bool apart,
                                             PerPosition<kKeys> (&sums)[kTilesAtOnce<kSteps>]) {
  constexpr int kTiles = kTilesAtOnce<kSteps>, kPerSlab = kKeys ? 4 : 8;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
#pragma unroll 1
  for (uint32_t rest = t.side.mixed; rest; rest &= rest - 1) {
    const int slab = __ffs(int(rest)) - 1;
    TileCoordinates<kSteps> y;
    ForwardStream stream(t.forward + slab * kSteps * 32);
    multiply<kSteps, kKeys>(y, x, stream);
    const UnitEntry e = t.units[kPerSlab * slab + (kKeys ? c : r)];
    const EncodeGroup& group = t.side.groups[e.group];
    if (kKeys && apart) {
      PerPosition<kKeys> scale[kTiles];
      take_scale<kKeys, kTiles>(t.inverse, e.norm, scale, sums);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) scale_coordinates<kKeys>(y[tile], scale[tile]);
    }
    uint2 codes[kTiles] = {};
    with_bits(e.bits, [&](auto bits) {
      const Codebook<bits.value> book(reinterpret_cast<const float*>(t.thresholds + group.thresholds),
                                      t.books + e.book);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        Squares<bits.value, kKeys> squares = {};
        codes[tile] = encode_tile<bits.value, kKeys>(y[tile], book, kKeys && e.half, squares);
        add_scaled<bits.value, kKeys>(squares, group.largest, sums[tile]);
      }
    });
    __syncwarp();
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int at = (slab * 4 + first + tile) * 32 + lane;
      t.low[at] = codes[tile].x;
      if (t.wide) t.high[at] = codes[tile].y;
    }
    if (kKeys && apart)  // one lane after the other, in a fixed order
      for (int turn = 0; turn < 4; ++turn) {
        if (c == turn && e.bits > 0)
#pragma unroll
          for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
            for (int i = 0; i < 2; ++i) t.of_c2[(e.norm * kTiles + tile) * 16 + 8 * i + r] += sums[tile][i];
        __syncwarp();
      }
  }
}

/// Encodes the tiles from `first` on: nibbles and lengths. kBits: all slabs are one run of this width, with
/// one norm; 0: they are not.
template <bool kKeys, int kBits, int kSteps>
__device__ __forceinline__ void encode_tiles(TileRows<kSteps>& x, const Tools& t, int first) {
  constexpr int kTiles = kTilesAtOnce<kSteps>, kPerSlab = kKeys ? 4 : 8;
  const int lane = threadIdx.x % 32, r = lane / 4, n_norms = kBits > 0 ? 1 : t.side.n_norms;
  find_lengths<kSteps, kKeys>(x, t.side, t.weights, t.forward, t.n_slabs, t.inverse);
  // x / |z| where there is one norm. Where there are several, something that the compiler cannot see through
  // must still stand here. So far values lie as they were loaded, in pairs of one row, and the products of
  // keys want four values of two rows together. This moves them once, not for every slab.
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const float low = n_norms > 1 ? 1.0f : fminf(t.inverse[16 * tile + r], 65504.0f);
    const float high = n_norms > 1 ? 1.0f : fminf(t.inverse[16 * tile + 8 + r], 65504.0f);
    const uint32_t factor[2] = {pack2(low, low), pack2(high, high)};
#pragma unroll
    for (int s = 0; s < kSteps; ++s)
#pragma unroll
      for (int j = 0; j < 4; ++j) x[tile][s][j] = multiply2(x[tile][s][j], factor[j % 2]);
  }
  PerPosition<kKeys> sums[kTiles] = {};
  PerPosition<kKeys> scale[kTiles];
  const auto encode = [&](auto bits, auto scaled, const SlabSpan& run) {
    const UnitEntry e = t.units[kPerSlab * run.first];
    const EncodeGroup& group = t.side.groups[e.group];
    const Codebook<bits.value> book(reinterpret_cast<const float*>(t.thresholds + group.thresholds),
                                    t.books + e.book);
    const int at = (run.first * 4 + first) * 32 + lane;
    encode_run<bits.value, kKeys, scaled.value, kSteps>(x, t.forward + run.first * kSteps * 32, run.count,
                                                        book, group.largest, scale, t.low + at, t.high + at,
                                                        sums);
  };
  if constexpr (kBits > 0) {
    encode(std::integral_constant<int, kBits>(), std::false_type(), SlabSpan{0, int16_t(t.n_slabs)});
  } else {
    for (int i = lane; i < 16 * kTiles * n_norms; i += 32) t.of_c2[i] = 0;
    __syncwarp();
#pragma unroll 1
    for (int i = 0; i < t.side.n_runs; ++i) {
      const SlabSpan run = t.side.runs[i];
      const UnitEntry& e = t.units[kPerSlab * run.first];
      if constexpr (kKeys)  // values have one norm
        if (n_norms > 1) {
          take_scale<kKeys, kTiles>(t.inverse, e.norm, scale, sums);
          with_bits(e.bits, [&](auto bits) { encode(bits, std::true_type(), run); });
          put_sums<kKeys, kTiles>(t.of_c2, e.norm, sums);
          continue;
        }
      with_bits(e.bits, [&](auto bits) { encode(bits, std::false_type(), run); });
    }
    encode_mixed<kKeys, kSteps>(x, t, first, n_norms > 1, sums);
  }
  if (n_norms == 1) put_sums<kKeys, kTiles>(t.of_c2, 0, sums);
  __syncwarp();
}

/// Packs the nibbles of all slabs into words in shared memory. part: which bits of four tiles are stored.
template <bool kKeys, int kBits, class Part>
__device__ __forceinline__ void put_codes(const Tools& t, uint8_t* codes, Part part) {
  constexpr int kPerSlab = kKeys ? 4 : 8;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
#pragma unroll(kBits > 0 ? 4 : 1)
  for (int slab = 0; slab < t.n_slabs; ++slab) {
    const auto take = [&](const uint32_t* from) {
      const uint32_t* tiles = from + slab * 128 + lane;
      return uint4{tiles[0], tiles[32], tiles[64], tiles[96]};
    };
    const UnitEntry& e = t.units[kPerSlab * slab + (kKeys ? c : r)];
    const uint4 v = take(t.low);
    if constexpr (kBits > 0) {
      store_unit<kBits>(part(v, kBits), v, codes + e.offset, kKeys ? r : c, false);
    } else {
      const uint4 up = t.wide ? take(t.high) : v;
      store_unit(e, part(v, e.bits), part(up, e.bits - 4), codes, kKeys ? r : c);
    }
  }
  __syncwarp();
}

/// Writes bytes [from, to) into a page that already has other positions, whose bits stay. codes: the words
/// with the new codes in place. Packing ones at all new positions then tells which bits are new.
template <bool kKeys, int kBits>
__device__ __noinline__ void merge_codes(Tools t, Piece piece, uint8_t* codes, uint8_t* block, int from,
                                         int to) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  uint32_t kept[kMostSideWords];
  int n = 0;
  for (int i = from / 4 + lane; i < to / 4; i += 32) kept[n++] = reinterpret_cast<const uint32_t*>(codes)[i];
  __syncwarp();
  uint32_t valid[4] = {};
  for (int i = 0; i < 4; ++i)
    for (int p = 0; p < 8; ++p) {
      const int position = kKeys ? 16 * i + 8 * (p / 4) + r : 16 * i + 8 * (p / 2 % 2) + 2 * c + p % 2;
      if (position >= piece.from && position < piece.to) valid[i] |= 15u << (4 * p);
    }
  put_codes<kKeys, kBits>(t, codes, [&](const uint4&, int bits) {
    const uint32_t ones = 0x11111111u * ((1u << min(max(bits, 0), 4)) - 1);
    return uint4{valid[0] & ones, valid[1] & ones, valid[2] & ones, valid[3] & ones};
  });
  n = 0;
  for (int i = from / 4 + lane; i < to / 4; i += 32) {
    const uint32_t fresh = reinterpret_cast<const uint32_t*>(codes)[i];
    uint32_t* word = reinterpret_cast<uint32_t*>(block) + i;
    *word = (*word & ~fresh) | (kept[n++] & fresh);
  }
}

template <int kDim, bool kKeys, int kBits>
__device__ __forceinline__ void encode_pages(const EncodeArguments& a, unsigned char* shared) {
  constexpr int kSteps = (kDim + 31) / 32 * 2, kTiles = kTilesAtOnce<kSteps>, kSide = kKeys ? 0 : 1;
  const SharedPlan plan = shared_plan(a.layer, a.encoder, kSteps);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, head = blockIdx.y;
  unsigned char* const mine = shared + plan.warps + warp * plan.warp_bytes;
  // What is known of this page and of the next one, in two buffers. It is in shared memory, since all
  // registers are taken.
  Piece* const pieces = reinterpret_cast<Piece*>(mine + plan.pieces);
  const int stride = gridDim.x * (blockDim.x / 32);
  int index = blockIdx.x * (blockDim.x / 32) + warp;
  wait_for_predecessor();
  if (index < a.n_pages) {
    const Piece first = piece_of(a, index, a.starts[sequence_of(a, index)]);
    fetch_rows<kDim>(a, first, 0, kTiles, kSide, head);
    if (lane == 0) pieces[0] = first;
  }
  wait_for_lines();
  __syncthreads();
  let_successor_start();

  const PackedTable& table = *reinterpret_cast<const PackedTable*>(shared);
  const unsigned char* encoder = shared + a.layer.table_bytes;
  const EncodeSide& side = reinterpret_cast<const EncodeSide*>(encoder)[kSide];
  const int n_norms = kBits > 0 ? 1 : side.n_norms;
  float* const lengths = reinterpret_cast<float*>(mine + plan.norms);
  const Tools t{side,
                encoder,
                shared,
                units_of(shared) + (kKeys ? 0 : 4 * table.key_slabs),
                reinterpret_cast<const uint4*>(shared + plan.forward) + lane,
                reinterpret_cast<const __half*>(shared + plan.weights),
                kKeys ? table.key_slabs : table.value_slabs,
                kBits == 0 && a.encoder.wide,
                reinterpret_cast<uint32_t*>(mine),
                reinterpret_cast<uint32_t*>(mine + plan.upper),
                lengths,
                lengths + n_norms * kTiles * 16};
  const int codes_from = kKeys ? 0 : int(t.units->offset),
            codes_to = kKeys ? int(t.units[4 * t.n_slabs].offset) : table.key_norms;
  const int norms_at = kKeys ? table.key_norms : table.value_norms;
  uint8_t* const codes = mine + plan.codes - codes_from;  // by offset in the block

#pragma unroll 1
  for (int turn = 0; index < a.n_pages; index += stride, turn ^= 1) {
    Piece& piece = pieces[turn];
    const int next = index + stride, start = next < a.n_pages ? a.starts[sequence_of(a, next)] : 0;
    const auto prepare_next = [&] {
      if (next >= a.n_pages) return;
      const Piece p = piece_of(a, next, start);
      fetch_rows<kDim>(a, p, 0, kTiles, kSide, head);
      if (lane == 0) pieces[turn ^ 1] = p;
    };
    if (piece.to <= piece.from) {  // the last page may have nothing new
      prepare_next();
      __syncwarp();
      continue;
    }
    uint8_t* block;
#pragma unroll 1
    for (int first = 0; first < 4; first += kTiles) {
      TileRows<kSteps> x;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
        load_rows<kDim, kSteps>(a, piece, first + tile, kSide, head, x[tile]);
      if (first + kTiles < 4)
        fetch_rows<kDim>(a, piece, first + kTiles, kTiles, kSide, head);
      else
        prepare_next();
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const uint32_t rows =
            !kKeys && a.layer.centres.n > 0
                ? subtract_centres<kDim, kSteps>(a, piece, first + tile, head, table, x[tile])
                : convert_rows<kDim, kSteps>(a, piece, first + tile, kSide, head, x[tile]);
        if (lane == 0) piece.keep_mean[tile] = rows;
      }
      const int id = a.cache.block_table[piece.sequence * a.cache.stride + piece.page];
      encode_tiles<kKeys, kBits, kSteps>(x, t, first);
      block = a.pages + id * a.layer.page_bytes + table.block_offset;
      for (int i = lane; i < 16 * kTiles * n_norms; i += 32) {
        const int norm = i / (16 * kTiles), position = 16 * first + i % (16 * kTiles);
        const float c2 = t.of_c2[i], inverse = t.inverse[i];
        const float length =
            inverse > 0 && c2 > 0 ? fminf(__fdividef(rsqrt_fast(c2), inverse), 65504.0f) : 0.0f;
        const bool keeps = norm == 0 && piece.keep_mean[i / 16] >> (i % 8 * 4 + i / 8 % 2) & 1;
        if (position >= piece.from && position < piece.to)
          reinterpret_cast<__half*>(block + norms_at)[norm * kPagePositions + norm_place(position)] =
              __float2half_rn(keeps ? -length : length);
      }
      __syncwarp();
    }
    put_codes<kKeys, kBits>(t, codes, [](const uint4& v, int) { return v; });
    if (piece.whole())
      for (int i = codes_from / 16 + lane; i < codes_to / 16; i += 32)
        reinterpret_cast<uint4*>(block)[i] = reinterpret_cast<const uint4*>(codes)[i];
    else
      merge_codes<kKeys, kBits>(t, piece, codes, block, codes_from, codes_to);
    __syncwarp();
  }
}

template <int kDim, int kBits>
__global__ void __launch_bounds__(256, kDim <= 128 ? 2 : 1) encode_kernel(const EncodeArguments a) {
  constexpr int kSteps = (kDim + 31) / 32 * 2;
  extern __shared__ __align__(128) unsigned char shared[];
  const SharedPlan plan = shared_plan(a.layer, a.encoder, kSteps);
  const int head = blockIdx.y;
  const bool keys = a.side + blockIdx.z == 0;
  const auto take = [&](const void* from, int64_t bytes, int at) {
    const uint8_t* mine = static_cast<const uint8_t*>(from) + head * bytes;
    for (int i = 16 * threadIdx.x; i < bytes; i += 16 * blockDim.x) copy_line(shared + at + i, mine + i);
  };
  take(a.layer.tables, a.layer.table_bytes, 0);
  take(a.encoder.tables, a.encoder.table_bytes, a.layer.table_bytes);
  take(keys ? a.encoder.key_forward : a.encoder.value_forward,
       (keys ? a.layer.key_slabs : a.layer.value_slabs) * kSteps * 512, plan.forward);
  take(keys ? a.encoder.key_weights : a.encoder.value_weights, (keys ? a.encoder.n_norms : 1) * kSteps * 32,
       plan.weights);
  if (keys)
    encode_pages<kDim, true, kBits>(a, shared);
  else
    encode_pages<kDim, false, kBits>(a, shared);
}

template <int kDim, int kBits>
void launch(const EncodeTokens& job, const Stream& stream) {
  constexpr int kSteps = (kDim + 31) / 32 * 2;
  const auto kernel = encode_kernel<kDim, kBits>;
  const PackedLayer& layer = *job.layer;
  const SharedPlan plan = shared_plan(layer, *job.encoder, kSteps);
  const int sms = attribute(cudaDevAttrMultiProcessorCount);
  const int sides = (job.k ? 1 : 0) + (job.v ? 1 : 0);
  // One page more: the first one may hold earlier positions.
  const int64_t pages_each = (job.tokens + kPagePositions - 1) / kPagePositions + 1;
  const int64_t pages = pages_each * job.batch;
  // Few pages: blocks have fewer warps, so that all multiprocessors have some.
  const int64_t groups = int64_t(layer.n_kv_heads) * sides;
  const int room = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - plan.warps;
  const int warps =
      int(std::clamp<int64_t>((pages * groups + sms - 1) / sms, 1, std::min(8, room / plan.warp_bytes)));
  const int shared = plan.warps + warps * plan.warp_bytes;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
             "shared memory");
  int resident = 0;
  check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, 32 * warps, shared),
             "occupancy");
  const int64_t all = int64_t(std::max(1, resident)) * sms;
  const EncodeArguments a{layer,           *job.encoder,   job.cache,       job.pages,
                          job.starts,      {job.k, job.v}, int(job.tokens), job.type == FloatType::bf16,
                          int(pages_each), int(pages),     job.k ? 0 : 1};
  const dim3 grid(unsigned(std::clamp<int64_t>(all / groups, 1, (pages + warps - 1) / warps)),
                  layer.n_kv_heads, sides);
  launch_early(kernel, grid, 32 * warps, shared, stream, "encode tokens", a);
}

template <int kDim>
void launch(const EncodeTokens& job, const Stream& stream) {
  const int key = job.k ? job.layer->uniform_key : job.layer->uniform_value;
  const int bits = !job.v || job.layer->uniform_value == key ? key : 0;
  if constexpr (kDim == 128) {
    if (bits == 2) return launch<kDim, 2>(job, stream);
    if (bits == 3) return launch<kDim, 3>(job, stream);
    if (bits == 4) return launch<kDim, 4>(job, stream);
  }
  launch<kDim, 0>(job, stream);
}

}  // namespace

void encode_tokens(const EncodeTokens& job, const Stream& stream) {
  check(job.layer && job.encoder && job.pages && job.starts && (job.k || job.v) && job.batch > 0 &&
            job.tokens > 0,
        "encode_tokens: arguments");
  check(job.type != FloatType::f32, "encode_tokens: float32");
  if (job.v && job.layer->centres.n > 0) find_centres(job, stream);
  with_dim(job.layer->dim, [&](auto dim) { launch<dim.value>(job, stream); });
}

}  // namespace blockgtq::cuda
