// Encodes new keys and values to trellis codes and norms in pages (cache/trellis_page.h).
//
//   z = F (x - R_t mean),  codes = the path whose centroids c lie nearest to z / |z|,  norm = |z| / |c|
//
// Where MeanRules says so, z is F x and the norm's sign bit is set. Where values have centres, the mean is
// the nearest of them (nearest_centre.cuh).
//
// Grid: vectors of a head, heads, keys and values. A warp takes up to kRows vectors as in round_trip.cu: the
// product in float32 for all of them, then the search of trellis.cuh for one after the other. Few vectors are
// spread over as many warps. A window is 8 neighbouring bits of the stream, so that a byte of a page is a
// window, or parts of two. No byte belongs to two positions, and none has to be read.
//
//   shared memory per warp   x and z (kRows, D) floats, TrellisScratch
//
// Bytes moved: 2 D per key or value in, and its share of the page out. Operations: the two passes of the
// search, some 100 instructions per coordinate, are nine tenths of all.
#include <cuda_fp16.h>

#include "cache/trellis_page.h"
#include "kernels/cache/nearest_centre.cuh"
#include "kernels/cache/trellis_encode.h"
#include "kernels/codes/row_product.cuh"
#include "kernels/codes/trellis.cuh"
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/ptx.cuh"
#include "kernels/device/reduce.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kRows = 4, kWarps = 4;
constexpr int64_t kFewVectors = 1 << 10;  // up to this number of keys and values a warp takes one

/// The arguments for keys, or for values.
struct Arguments {
  PageTable cache;
  uint8_t* pages;
  int64_t page_bytes;
  int block_bytes, side_at;  // side_at: where codes and norms begin in a block
  const int32_t* starts;
  const void* x;      // (B, T, H, D)
  int64_t tokens, n;  // n: B T
  int n_kv_heads;
  int rows;  // vectors of a warp
  int bits;  // 0: these keys or values are left alone
  TrellisEncodeSide side;
  const float* mean;  // values: (H, D); keys: (H, 64, D); or null
  const MeanCoordinate* coordinates;
  const float2* page_angles;  // (pages, D / 2)
  MeanRules rules;
  ValueCentres centres;  // of values; n is 0 for keys
};

/// Where a new token goes.
struct Place {
  int position, page;  // position in the page; page of the sequence
  uint8_t* side;
};
template <int kDim>
__device__ Place place_of(const Arguments& a, int64_t row, int head) {
  const int64_t sequence = row / a.tokens, t = a.starts[sequence] + row % a.tokens;
  Place p;
  p.position = int(t % kPagePositions);
  p.page = int(t / kPagePositions);
  const int id = a.cache.block_table[sequence * a.cache.stride + p.page];
  p.side = a.pages + id * a.page_bytes + int64_t(head) * a.block_bytes + a.side_at;
  return p;
}

/// The mean at coordinate d.
template <int kDim, bool kKeys>
__device__ float mean_of(const Arguments& a, const Place& p, int head, int d) {
  if (!a.mean) return 0;
  if (!kKeys) return a.mean[head * kDim + d];
  const float* const row = a.mean + (int64_t(head) * kPagePositions + p.position) * kDim;
  const MeanCoordinate m = a.coordinates[d];
  const float2 turn = a.page_angles[int64_t(p.page) * (kDim / 2) + m.block];
  return row[d] * turn.x + m.sign * row[m.other] * turn.y;
}

/// x (D) = the vector, less its mean unless it keeps it. Returns whether it does.
template <class T, int kDim, bool kKeys>
__device__ bool take_mean_off(const Arguments& a, const Place& p, int head, const T* from, float* x) {
  constexpr int kEach = kDim / 32;
  const int lane = threadIdx.x % 32;
  float mean[kEach], pull = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int d = lane + 32 * i;
    x[d] = to_float(from[d]);
    mean[i] = mean_of<kDim, kKeys>(a, p, head, d);
    if (a.mean) pull = fmaf(a.rules.weights[head * kDim + d] * (kKeys ? mean[i] : 1.0f), x[d], pull);
  }
  const bool keeps_mean = a.mean && warp_sum(pull) < a.rules.limits[head];
#pragma unroll
  for (int i = 0; i < kEach; ++i)
    if (!keeps_mean) x[lane + 32 * i] -= mean[i];
  return keeps_mean;
}

/// Subtracts its centre from every row of x (kRows, D), except from rows that keep it. Returns these as bits.
template <int kDim>
__device__ uint32_t take_centres_off(const ValueCentres& centres, int head, float* x,
                                     NearestCentre (&nearest)[kRows]) {
  nearest_centres<kDim>(centres, head, x, nearest);
  uint32_t keep = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    keep |= uint32_t(nearest[r].keeps) << r;
    const float* const row = centres.rows + (int64_t(head) * centres.n + nearest[r].number) * kDim;
    for (int d = threadIdx.x % 32; d < kDim && !nearest[r].keeps; d += 32) x[r * kDim + d] -= row[d];
  }
  return keep;
}

/// Byte y of the stream that has these windows: the window that ends with the byte, or else part of the
/// window that ends behind it, and the rest of the one before.
template <int kBits>
__device__ uint8_t stream_byte(const uint8_t* windows, int y) {
  const int end = 8 * (y + 1), j = (end + kBits - 1) / kBits - 1, beyond = kBits * (j + 1) - end;
  const uint32_t window = windows[j];
  if (beyond == 0) return uint8_t(window);
  return uint8_t(window << beyond | (windows[j - 1] >> (kBits - beyond) & ((1u << beyond) - 1)));
}

/// kCentres: of these values.
template <class T, int kDim, int kBits, bool kKeys, bool kCentres>
__device__ void encode(const Arguments& a) {
  extern __shared__ float4 shared[];
  constexpr int kWarpBytes = 2 * kRows * kDim * 4 + TrellisScratch::bytes(kDim);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y;
  auto* const x = reinterpret_cast<float*>(reinterpret_cast<char*>(shared) + warp * kWarpBytes);
  float* const z = x + kRows * kDim;
  const TrellisScratch scratch(z + kRows * kDim, kDim);
  const int64_t first = (int64_t(blockIdx.x) * kWarps + warp) * a.rows;
  if (first >= a.n) return;
  const int n = int(min(int64_t(a.rows), a.n - first));
  uint32_t keep_mean = 0;  // a bit for each row
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = first + min(r, n - 1);
    const Place p = place_of<kDim>(a, row, head);
    const T* const from = static_cast<const T*>(a.x) + (row * a.n_kv_heads + head) * kDim;
    keep_mean |= uint32_t(take_mean_off<T, kDim, kKeys>(a, p, head, from, x + r * kDim)) << r;
  }
  __syncwarp();
  [[maybe_unused]] NearestCentre nearest[kRows];
  if constexpr (kCentres) {
    keep_mean = take_centres_off<kDim>(a.centres, head, x, nearest);
    __syncwarp();
  }
  multiply_rows<kRows, kDim / 32>(a.side.forward + int64_t(head) * kDim * kDim, kDim, kDim, x, z, kDim);
  __syncwarp();
  const float* const centroids = a.side.centroids + head * kTrellisStates;
  UniformStream<kBits> stream(kDim, centroids);
  for (int r = 0; r < n; ++r) {
    float* const y = z + r * kDim;
    double square = 0, of_c = 0;
    for (int j = lane; j < kDim; j += 32) square += double(y[j]) * y[j];
    const double length = sqrt(warp_sum(square)), inverse = length > 0 ? 1 / length : 0;
    for (int j = lane; j < kDim; j += 32) y[j] = float(y[j] * inverse);
    __syncwarp();
    find_windows(stream, y, scratch);
    __syncwarp();
    for (int j = lane; j < kDim; j += 32) {
      const double c = __ldg(centroids + scratch.states[j]);
      of_c += c * c;
    }
    of_c = warp_sum(of_c);
    const Place p = place_of<kDim>(a, first + r, head);
    for (int i = lane; i < kDim * kBits / 8; i += 32)
      p.side[trellis_bit(kDim, kBits, kKeys, p.position, 8 * i) / 8] = stream_byte<kBits>(scratch.states, i);
    const float norm = of_c > 0 ? float(fmin(length / sqrt(of_c), 65504.0)) : 0.0f;
    if (lane == 0)
      reinterpret_cast<__half*>(p.side + trellis_code_bytes(kDim, kBits))[norm_place(p.position)] =
          __float2half_rn(keep_mean >> r & 1 ? -norm : norm);
    if constexpr (kCentres) {
      int number = 0;
#pragma unroll
      for (int k = 0; k < kRows; ++k) number = k == r ? nearest[k].number : number;
      if (lane == 0) p.side[trellis_side_bytes(kDim, kBits) + centre_place(p.position)] = uint8_t(number);
    }
    __syncwarp();
  }
}

template <class T, int kDim, bool kKeys, bool kCentres>
__device__ void encode(const Arguments& a) {
  switch (a.bits) {
    case 2:
      return encode<T, kDim, 2, kKeys, kCentres>(a);
    case 3:
      return encode<T, kDim, 3, kKeys, kCentres>(a);
    case 4:
      return encode<T, kDim, 4, kKeys, kCentres>(a);
  }
}

/// Prefetches a head's F and centres into L2, from which the weights of a step have evicted it.
template <int kDim, bool kCentres>
__device__ void fetch_forward(const Arguments& a) {
  const float* const forward = a.side.forward + int64_t(blockIdx.y) * kDim * kDim;
  for (int i = 32 * threadIdx.x; i < kDim * kDim; i += 32 * blockDim.x) fetch_line(forward + i);
  if constexpr (!kCentres) return;
  const float* const centres = a.centres.columns + int64_t(blockIdx.y) * kDim * a.centres.n;
  for (int i = 32 * threadIdx.x; i < kDim * a.centres.n; i += 32 * blockDim.x) fetch_line(centres + i);
}

/// kCentres: values have centres.
template <class T, int kDim, bool kCentres>
__global__ void __launch_bounds__(32 * kWarps)
    trellis_encode_kernel(const Arguments keys, const Arguments values) {
  if (keys.rows == 1) fetch_forward<kDim, kCentres>(blockIdx.z == 0 ? keys : values);
  wait_for_predecessor();
  // The successor reads nothing of the pages that are written here before this kernel has ended.
  let_successor_start();
  if (blockIdx.z == 0)
    encode<T, kDim, true, false>(keys);
  else
    encode<T, kDim, false, kCentres>(values);
}

template <int kDim>
void launch(const Arguments& keys, const Arguments& values, FloatType type, const Stream& stream) {
  constexpr int kBytes = kWarps * (2 * kRows * kDim * 4 + TrellisScratch::bytes(kDim));
  const int64_t of_block = kWarps * keys.rows;
  const dim3 grid(unsigned((keys.n + of_block - 1) / of_block), keys.n_kv_heads, 2);
  const auto run = [&](auto kernel) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
               "shared memory");
    launch_early(kernel, grid, 32 * kWarps, kBytes, stream, "encode trellis", keys, values);
  };
  const bool centres = values.centres.n > 0;
  if (type == FloatType::bf16)
    run(centres ? trellis_encode_kernel<__nv_bfloat16, kDim, true>
                : trellis_encode_kernel<__nv_bfloat16, kDim, false>);
  else
    run(centres ? trellis_encode_kernel<__half, kDim, true> : trellis_encode_kernel<__half, kDim, false>);
}

}  // namespace

void encode_trellis(const TrellisLayer& layer, const TrellisEncoder& encoder, const EncodeTokens& job,
                    const Stream& stream) {
  check(job.pages && job.pages == job.cache.pages && job.starts && (job.k || job.v) && job.batch > 0 &&
            job.tokens > 0,
        "encode_trellis: arguments");
  check(job.type != FloatType::f32, "encode_trellis: float32");
  const PackedLayer& packed = layer.packed;
  for (const int bits : {layer.key_bits, layer.value_bits})
    check(has_trellis_page(packed.dim, bits), "encode_trellis: bits or head dimension");
  Arguments keys{};
  keys.cache = job.cache;
  keys.pages = job.pages;
  keys.page_bytes = packed.page_bytes;
  keys.block_bytes = packed.block_bytes;
  keys.starts = job.starts;
  keys.tokens = job.tokens;
  keys.n = job.batch * job.tokens;
  keys.n_kv_heads = packed.n_kv_heads;
  keys.rows = 2 * keys.n * keys.n_kv_heads <= kFewVectors ? 1 : kRows;
  Arguments values = keys;
  keys.x = job.k;
  keys.bits = job.k ? layer.key_bits : 0;
  keys.side = encoder.key;
  keys.mean = encoder.key_mean;
  keys.rules = packed.key_rules;
  keys.coordinates = encoder.coordinates;
  keys.page_angles = reinterpret_cast<const float2*>(packed.page_angles);
  values.x = job.v;
  values.bits = job.v ? layer.value_bits : 0;
  values.side = encoder.value;
  values.side_at = trellis_side_bytes(packed.dim, layer.key_bits);
  values.mean = encoder.value_mean;
  values.rules = packed.value_rules;
  values.centres = packed.centres;
  if (packed.dim == 64)
    launch<64>(keys, values, job.type, stream);
  else
    launch<128>(keys, values, job.type, stream);
}

}  // namespace blockgtq::cuda
