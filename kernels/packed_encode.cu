// New keys and values to codes and norms in pages, one launch for all heads of a layer.
//
//   z = F (x - R_t mean),  u = z / |z|,  code = nearest centroid of u_j,  norm = |z| / |c|
//
// Grid: pages in turn, KV heads, keys and values; F of the head in shared memory.
//
// A warp has a page of its own, 16 positions at a time and no barrier: x in registers as it lies in memory
// (lane c of a quad reads 16 contiguous bytes, which are its elements of the operand), then slab by slab of
// 16 coordinates: product on the tensor cores, codes, eight nibbles. A lane holds just the coordinates whose
// codes make up its words (cache/page_layout.h): packing needs no exchange between lanes.
//
// Norms: F^T F is diagonal where F turns, permutes and scales: |z|^2 = sum_d w_d x_d^2 before any product.
// Elsewhere (values by KLT) the product is done twice.
//
// Bytes moved: 2 D per key or value in, its share of the page out; 306 at D = 128 and 3 bits.
//
// Accuracy. F and x - R_t mean are rounded to fp16 and u again before it is compared (up to 4 bits):
// together 2.5e-4 of a coordinate's standard deviation. A code flips where a boundary lies that near:
// probability 0.8 x 2.5e-4 x sum of the density at the boundaries, 3.4e-4 at 3 bits, where two centroids are
// equally near: the distortion stays.
#include <algorithm>

#include "cache/page_layout.h"
#include "check.cuh"
#include "float_type.cuh"
#include "packed_codes.cuh"
#include "packed_encode.h"

namespace blockgtq::cuda {
namespace {

constexpr int kMostSideWords = 128;  // of a lane: 64 positions of 256 coordinates of 8 bits

struct Arguments {
  PackedLayer layer;
  EncodeLayer encoder;
  PageTable cache;
  uint8_t* pages;
  const int32_t* starts;
  const void* x[2];  // keys, values
  int tokens;
  bool bf16;
  int pages_each, n_pages;  // pages a sequence may touch; of all sequences
  int side;                 // of blockIdx.z = 0
  uint32_t zero;            // 0
};

/// A page's part of a sequence.
struct Piece {
  int sequence, page;
  int from, to;  // positions of the page that are new
  __device__ bool whole() const { return from <= 0 && to >= kPagePositions; }
};
__device__ inline Piece piece_of(const Arguments& a, int index) {
  Piece p;
  p.sequence = a.n_pages == a.pages_each ? 0 : index / a.pages_each;
  const int start = a.starts[p.sequence];
  p.page = start / kPagePositions + index - p.sequence * a.pages_each;
  p.from = max(start - p.page * kPagePositions, 0);
  p.to = min(start + a.tokens - p.page * kPagePositions, kPagePositions);
  return p;
}

/// Two coordinates to float32.
__device__ inline float2 to_float2(uint32_t x, bool bf16) {
  return bf16 ? make_float2(__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u))
              : __half22float2(as_half2(x));
}

/// The coordinate at depth k of a step is 32 (step / 2) + 8 c + 4 (step % 2) + 2 (k / 8) + k % 2 with c = k %
/// 8 / 2: a lane's elements of two steps are 16 contiguous bytes. Rows outside the piece are zero.
template <int kDim, int kSteps>
__device__ __forceinline__ void load_rows(const Arguments& a, const Piece& p, int tile, int side, int head,
                                          Rows<kSteps>& x) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4, stride = a.layer.n_kv_heads * kDim;
  const uint16_t* from =
      static_cast<const uint16_t*>(a.x[side]) +
      (int64_t(p.sequence) * a.tokens + p.page * kPagePositions - a.starts[p.sequence]) * stride +
      head * kDim + 8 * c;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int position = 16 * tile + 8 * half + r;
    const bool there = position >= p.from && position < p.to;
#pragma unroll
    for (int s = 0; s < kSteps; s += 2) {
      uint4 v{};
      if (there && (kDim % 32 == 0 || 16 * s + 8 * c < kDim))
        v = __ldcs(reinterpret_cast<const uint4*>(from + position * stride + 16 * s));
      x[s][half] = v.x, x[s][2 + half] = v.y;
      x[s + 1][half] = v.z, x[s + 1][2 + half] = v.w;
    }
  }
}

/// bf16 to fp16, and the mean off.
template <int kDim, int kSteps>
__device__ void convert_rows(const Arguments& a, const Piece& p, int tile, int side, int head,
                             Rows<kSteps>& x) {
  const bool centred = side == 0 ? a.encoder.key_mean != nullptr : a.encoder.value_mean != nullptr;
  if (!a.bf16 && !centred) return;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
#pragma unroll
  for (int s = 0; s < kSteps; ++s)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int position = 16 * tile + 8 * (j % 2) + r, d = 32 * (s / 2) + 8 * c + 4 * (s % 2) + 2 * (j / 2);
      float2 y = to_float2(x[s][j], a.bf16);
      if (centred && position >= p.from && position < p.to && (kDim % 32 == 0 || d < kDim)) {
        if (side == 1) {
          const float2 mean = *reinterpret_cast<const float2*>(a.encoder.value_mean + head * kDim + d);
          y.x -= mean.x, y.y -= mean.y;
        } else {
          const float* of_row = a.encoder.key_mean + (int64_t(head) * kPagePositions + position) * kDim;
          const float2* angles =
              reinterpret_cast<const float2*>(a.layer.page_angles) + int64_t(p.page) * (kDim / 2);
          const MeanCoordinate m = a.encoder.coordinates[d], n = a.encoder.coordinates[d + 1];
          const float2 turn_m = angles[m.block], turn_n = angles[n.block];
          y.x -= of_row[d] * turn_m.x + m.sign * of_row[m.other] * turn_m.y;
          y.y -= of_row[d + 1] * turn_n.x + n.sign * of_row[n.other] * turn_n.y;
        }
      }
      x[s][j] = pack2(fminf(fmaxf(y.x, -65504.0f), 65504.0f), fminf(fmaxf(y.y, -65504.0f), 65504.0f));
    }
}

/// Over the lanes that share positions: the four of a quad (keys), or the eight of a column (values).
template <bool kKeys>
__device__ inline float sum_lanes(float x) {
#pragma unroll
  for (int apart = kKeys ? 1 : 4; apart < (kKeys ? 4 : 32); apart *= 2)
    x += __shfl_xor_sync(0xffffffffu, x, apart);
  return x;
}

/// Where things lie in shared memory: the tables first, F, the weights of |z|^2, then the warps'.
struct SharedPlan {
  int forward, weights, warps;
  int nibbles, upper, codes, norms, warp_bytes;  // of a warp's part
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
  p.warp_bytes = p.norms + encoder.n_norms * 2 * 64;  // 16 positions: 1 / |z|, then c^2
  return p;
}

/// The inverse lengths of 16 positions: (norm, 16) by position, and the lengths behind them.
template <int kSteps, bool kKeys>
__device__ void find_lengths(const Rows<kSteps>& x, const EncodeSide& side, const __half* weights,
                             const uint4* forward, int n_slabs, float* inverse) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  if (side.diagonal) {  // the diagonal of (x w) x^T
#pragma unroll 1
    for (int norm = 0; norm < side.n_norms; ++norm) {
      float first[4], second[4];  // of rows r against rows 0..7 and 8..15
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        uint32_t weighed[4] = {x[s][0], x[s][1], x[s][2], x[s][3]};
        if (side.weighed) {
          const uint2 w =
              reinterpret_cast<const uint2*>(weights + norm * kSteps * 16)[8 * (s / 2) + 2 * c + s % 2];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const __half2 y = __hmul2(as_half2(x[s][j]), as_half2(j < 2 ? w.x : w.y));
            weighed[j] = *reinterpret_cast<const uint32_t*>(&y);
          }
        }
        if (s == 0) {
          mma_first(first, weighed, x[s][0], x[s][2]);
          mma_first(second, weighed, x[s][1], x[s][3]);
        } else {
          mma(first, weighed, x[s][0], x[s][2]);
          mma(second, weighed, x[s][1], x[s][3]);
        }
      }
      if (c == r / 2) {
        const float low = (r % 2 ? first[1] : first[0]) * side.weight_scale[norm];
        const float high = (r % 2 ? second[3] : second[2]) * side.weight_scale[norm];
        inverse[norm * 16 + r] = low > 0 ? rsqrtf(low) : 0.0f;
        inverse[norm * 16 + 8 + r] = high > 0 ? rsqrtf(high) : 0.0f;
      }
    }
  } else {  // one norm
    PerPosition<kKeys> sum = {};
#pragma unroll 1
    for (int slab = 0; slab < n_slabs; ++slab) {
      Coordinates y;
      multiply<kSteps, kKeys>(y, x, forward + slab * kSteps * 32 + lane);
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float z = y[j / 2][2 * (j % 2) + e];
          sum[slot<kKeys>(j, e)] = fmaf(z, z, sum[slot<kKeys>(j, e)]);
        }
    }
#pragma unroll
    for (int i = 0; i < (kKeys ? 2 : 4); ++i) {
      const float square = sum_lanes<kKeys>(sum[i]);
      if (kKeys ? c == 0 : r == 0)
        inverse[kKeys ? 8 * i + r : 8 * (i / 2) + 2 * c + i % 2] = square > 0 ? rsqrtf(square) : 0.0f;
    }
  }
  __syncwarp();
}

template <int kDim, bool kKeys>
__device__ void encode_pages(const Arguments& a, unsigned char* shared) {
  constexpr int kSteps = (kDim + 31) / 32 * 2, kSide = kKeys ? 0 : 1;
  const SharedPlan plan = shared_plan(a.layer, a.encoder, kSteps);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, r = lane / 4, c = lane % 4, head = blockIdx.y;
  const PackedTable& table = *reinterpret_cast<const PackedTable*>(shared);
  const unsigned char* encoder = shared + a.layer.table_bytes;
  const EncodeSide& side = reinterpret_cast<const EncodeSide*>(encoder)[kSide];
  const int n_slabs = kKeys ? table.key_slabs : table.value_slabs, n_norms = side.n_norms;
  const UnitEntry* units =
      reinterpret_cast<const UnitEntry*>(shared + sizeof(PackedTable)) + (kKeys ? 0 : 4 * table.key_slabs);
  const int unit_lane = kKeys ? r : c, per_slab = kKeys ? 4 : 8, in_slab = kKeys ? c : r;
  const int codes_from = kKeys ? 0 : int(units->offset),
            codes_to = kKeys ? int(units[4 * n_slabs].offset) : table.key_norms;
  const int norms_at = kKeys ? table.key_norms : table.value_norms;
  const uint4* forward = reinterpret_cast<const uint4*>(shared + plan.forward);
  const __half* weights = reinterpret_cast<const __half*>(shared + plan.weights);
  unsigned char* const mine = shared + plan.warps + warp * plan.warp_bytes;
  uint32_t* nibbles_of = reinterpret_cast<uint32_t*>(mine);             // (slab, lane, tile)
  uint32_t* upper_of = reinterpret_cast<uint32_t*>(mine + plan.upper);  // likewise
  uint8_t* codes = mine + plan.codes - codes_from;                      // by offset in the block
  float* inverse = reinterpret_cast<float*>(mine + plan.norms);         // (norm, 16)
  float* of_c = inverse + n_norms * 16;

#pragma unroll 1
  for (int index = blockIdx.x * (blockDim.x / 32) + warp; index < a.n_pages;
       index += gridDim.x * (blockDim.x / 32)) {
    const Piece piece = piece_of(a, index);
    if (piece.to <= piece.from) continue;  // a last page may have nothing
    uint8_t* block =
        a.pages +
        int64_t(a.cache.block_table[piece.sequence * a.cache.stride + piece.page]) * a.layer.page_bytes +
        table.block_offset;
#pragma unroll 1
    for (int tile = 0; tile < 4; ++tile) {
      Rows<kSteps> x;
      load_rows<kDim, kSteps>(a, piece, tile, kSide, head, x);
      convert_rows<kDim, kSteps>(a, piece, tile, kSide, head, x);
      find_lengths<kSteps, kKeys>(x, side, weights, forward, n_slabs, inverse);
      // So far values lie as they were loaded, in pairs of one row; keys' products want four of two rows
      // together. An operation that the compiler cannot see through moves them once, not for every slab.
#pragma unroll
      for (int s = 0; s < kSteps; ++s)
#pragma unroll
        for (int j = 0; j < 4; ++j) x[s][j] ^= a.zero;
      if (n_norms > 1)
        for (int i = lane; i < 16 * n_norms; i += 32) of_c[i] = 0;
      PerPosition<kKeys> sums = {};
      PerPosition<kKeys> scale;
      const auto take_scale = [&](int norm) {
#pragma unroll
        for (int i = 0; i < (kKeys ? 2 : 4); ++i)
          scale[i] = inverse[norm * 16 + (kKeys ? 8 * i + r : 8 * (i / 2) + 2 * c + i % 2)];
      };
      take_scale(0);
      const auto uniform = [&](auto bits) {
        const EncodeGroup& group = side.groups[0];
        encode_slabs<bits.value, kKeys, kSteps>(x, forward + lane, n_slabs,
                                                reinterpret_cast<const float*>(encoder + group.thresholds),
                                                *reinterpret_cast<const uint2*>(shared + units->book),
                                                group.largest, scale, nibbles_of + lane * 4 + tile, sums);
      };
      if (side.uniform_bits == 2) uniform(std::integral_constant<int, 2>());
      if (side.uniform_bits == 3) uniform(std::integral_constant<int, 3>());
      if (side.uniform_bits == 4) uniform(std::integral_constant<int, 4>());
      const int apart = side.uniform_bits > 0 ? 0 : n_slabs;  // slabs of several widths
#pragma unroll 1
      for (int slab = 0; slab < apart; ++slab) {
        Coordinates y;
        multiply<kSteps, kKeys>(y, x, forward + slab * kSteps * 32 + lane);
        const UnitEntry e = units[per_slab * slab + in_slab];
        const EncodeGroup& group = side.groups[e.group];
        const float* t = reinterpret_cast<const float*>(encoder + group.thresholds);
        const uint8_t* book = shared + e.book;
        uint32_t low = 0, high = 0;
        if (n_norms > 1) {
          take_scale(e.norm);
#pragma unroll
          for (int i = 0; i < (kKeys ? 2 : 4); ++i) sums[i] = 0;
        }
        switch (e.bits) {
#define CASE(bits)                                                          \
  case bits:                                                                \
    encode_tile<bits, kKeys>(y, scale, e, t, book, group, low, high, sums); \
    break;
          CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
        }
        __syncwarp();
        nibbles_of[(slab * 32 + lane) * 4 + tile] = low;
        if (a.encoder.wide) upper_of[(slab * 32 + lane) * 4 + tile] = high;
        if (n_norms > 1)  // lanes one after the other: a fixed order
          for (int turn = 0; turn < 4; ++turn) {
            if (c == turn && e.bits > 0)
#pragma unroll
              for (int i = 0; i < 2; ++i) {
                of_c[e.norm * 16 + 8 * i + r] += sums[i];
              }
            __syncwarp();
          }
      }
      if (n_norms == 1)
#pragma unroll
        for (int i = 0; i < (kKeys ? 2 : 4); ++i) {
          const float c2 = sum_lanes<kKeys>(sums[i]);
          if (kKeys ? c == 0 : r == 0) {
            const int position = kKeys ? 8 * i + r : 8 * (i / 2) + 2 * c + i % 2;
            of_c[position] = c2;
          }
        }
      __syncwarp();
      for (int i = lane; i < 16 * n_norms; i += 32) {
        const int position = 16 * tile + i % 16;
        const float c2 = of_c[i];
        float norm = 0;
        if (c2 > 0) norm = inverse[i] > 0 ? rsqrtf(c2) / inverse[i] : 0.0f;
        if (position >= piece.from && position < piece.to)
          reinterpret_cast<__half*>(block + norms_at)[i / 16 * kPagePositions + norm_place(position)] =
              __float2half_rn(fminf(norm, 65504.0f));
      }
      __syncwarp();
    }
    const auto put_codes = [&](auto part) {
#pragma unroll 1
      for (int slab = 0; slab < n_slabs; ++slab) {
        const uint4 v = reinterpret_cast<const uint4*>(nibbles_of)[slab * 32 + lane];
        const uint4 up = a.encoder.wide ? reinterpret_cast<const uint4*>(upper_of)[slab * 32 + lane] : v;
        const UnitEntry e = units[per_slab * slab + in_slab];
        store_unit(e, part(v, e.bits), part(up, e.bits - 4), codes, unit_lane);
      }
      __syncwarp();
    };
    put_codes([](const uint4& v, int) { return v; });
    if (piece.whole()) {
      for (int i = codes_from / 16 + lane; i < codes_to / 16; i += 32)
        reinterpret_cast<uint4*>(block)[i] = reinterpret_cast<const uint4*>(codes)[i];
    } else {
      // The bits of other positions stay: all of the new ones set tells which those are.
      uint32_t kept[kMostSideWords];
      int n = 0;
      for (int i = codes_from / 4 + lane; i < codes_to / 4; i += 32)
        kept[n++] = reinterpret_cast<const uint32_t*>(codes)[i];
      __syncwarp();
      uint32_t valid[4] = {};
      for (int i = 0; i < 4; ++i)
        for (int p = 0; p < 8; ++p) {
          const int position = kKeys ? 16 * i + 8 * (p / 4) + r : 16 * i + 8 * (p / 2 % 2) + 2 * c + p % 2;
          if (position >= piece.from && position < piece.to) valid[i] |= 15u << (4 * p);
        }
      put_codes([&](const uint4&, int bits) {
        const uint32_t ones = 0x11111111u * ((1u << min(max(bits, 0), 4)) - 1);
        return uint4{valid[0] & ones, valid[1] & ones, valid[2] & ones, valid[3] & ones};
      });
      n = 0;
      for (int i = codes_from / 4 + lane; i < codes_to / 4; i += 32) {
        const uint32_t fresh = reinterpret_cast<const uint32_t*>(codes)[i];
        uint32_t* to = reinterpret_cast<uint32_t*>(block) + i;
        *to = (*to & ~fresh) | (kept[n++] & fresh);
      }
    }
    __syncwarp();
  }
}

template <int kDim>
__global__ void __launch_bounds__(256, kDim <= 128 ? 2 : 1) encode_kernel(const Arguments a) {
  constexpr int kSteps = (kDim + 31) / 32 * 2;
  extern __shared__ __align__(128) unsigned char shared[];
  const SharedPlan plan = shared_plan(a.layer, a.encoder, kSteps);
  const int head = blockIdx.y;
  const bool keys = a.side + blockIdx.z == 0;
  const auto take = [&](const void* from, int64_t bytes, int at) {
    const uint4* words = static_cast<const uint4*>(from) + head * (bytes / 16);
    for (int i = threadIdx.x; i < bytes / 16; i += blockDim.x)
      reinterpret_cast<uint4*>(shared + at)[i] = words[i];
  };
  take(a.layer.tables, a.layer.table_bytes, 0);
  take(a.encoder.tables, a.encoder.table_bytes, a.layer.table_bytes);
  take(keys ? a.encoder.key_forward : a.encoder.value_forward,
       (keys ? a.layer.key_slabs : a.layer.value_slabs) * kSteps * 512, plan.forward);
  take(keys ? a.encoder.key_weights : a.encoder.value_weights, (keys ? a.encoder.n_norms : 1) * kSteps * 32,
       plan.weights);
  __syncthreads();
  if (keys)
    encode_pages<kDim, true>(a, shared);
  else
    encode_pages<kDim, false>(a, shared);
}

template <int kDim>
void launch(const EncodeTokens& job, const Stream& stream) {
  constexpr int kSteps = (kDim + 31) / 32 * 2;
  const auto kernel = encode_kernel<kDim>;
  const PackedLayer& layer = *job.layer;
  const SharedPlan plan = shared_plan(layer, *job.encoder, kSteps);
  const int sms = attribute(cudaDevAttrMultiProcessorCount);
  const int sides = (job.k ? 1 : 0) + (job.v ? 1 : 0);
  const int64_t pages_each =
      (job.tokens + kPagePositions - 1) / kPagePositions + 1;  // a first page may be begun
  const int64_t pages = pages_each * job.batch;
  // Few pages: fewer warps to a block, so that all multiprocessors have some.
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
  const Arguments a{layer,           *job.encoder,   job.cache,       job.pages,
                    job.starts,      {job.k, job.v}, int(job.tokens), job.type == FloatType::bf16,
                    int(pages_each), int(pages),     job.k ? 0 : 1,   0};
  const dim3 grid(unsigned(std::clamp<int64_t>(all / groups, 1, (pages + warps - 1) / warps)),
                  layer.n_kv_heads, sides);
  kernel<<<grid, 32 * warps, shared, raw(stream)>>>(a);
  check_launch("encode tokens");
}

}  // namespace

void encode_tokens(const EncodeTokens& job, const Stream& stream) {
  check(job.layer && job.encoder && job.pages && job.starts && (job.k || job.v) && job.batch > 0 &&
            job.tokens > 0,
        "encode_tokens: arguments");
  check(job.type != FloatType::f32, "encode_tokens: float32");
  switch (job.layer->dim) {
    case 64:
      return launch<64>(job, stream);
    case 80:
      return launch<80>(job, stream);
    case 96:
      return launch<96>(job, stream);
    case 128:
      return launch<128>(job, stream);
    case 256:
      return launch<256>(job, stream);
    default:
      check(false, "encode_tokens: head dimension");
  }
}

}  // namespace blockgtq::cuda
