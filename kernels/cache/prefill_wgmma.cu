// Attention of rows of queries over tiles, on the tensor cores of sm_90a.
//
//   S (64, 64 kTiles) = Q (64, D) K^T,   O (64, D) += P V
//
// Grid: blocks of 128 rows, the longest first; KV heads; (sequence, split). There are three warpgroups of 128
// threads. One brings tiles to shared memory (one thread, bulk copies, two steps ahead). Two multiply, 64
// rows each: Q, K and V come from shared memory, while scores, weights and outputs are in registers. While
// this step's weights are multiplied with the values, the next step's scores are computed and become weights.
// The two warpgroups fall into taking turns at this.
//
// Work: 4 D operations per row and position on the tensor cores, and an exponential.
#include <algorithm>

#include "kernels/cache/prefill_rows.cuh"
#include "kernels/device/wgmma.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kStages = 2, kWarpgroups = 2, kThreads = 128 * (1 + kWarpgroups);

/// The parts of the outputs, which have products of their own, and the coordinates of a part.
template <int kDim>
constexpr int kParts = kDim > 128 ? 2 : 1;
template <int kDim>
constexpr int kPart = kDim / kParts<kDim>;

template <int kDim>
struct Shape {
  static constexpr int kTiles = kDim > 128 ? 1 : 2;  // tiles of a step
  static constexpr int kQueryBytes = 64 * kDim * 2;  // of a warpgroup
  static constexpr int kKeyBytes = kTiles * key_tile_bytes(kDim),
                       kValueBytes = kTiles * value_tile_bytes(kDim);
  static constexpr int kSharedBytes = 1024 + kWarpgroups * kQueryBytes + kStages * (kKeyBytes + kValueBytes);
};

/// Where the parts of shared memory begin, as addresses for instructions.
template <int kDim>
struct Places {
  uint32_t queries, keys, values;
  uint32_t barriers;  // per stage: keys arrived, values arrived, keys free, values free
  __device__ uint32_t key_stage(int i) const { return keys + i * Shape<kDim>::kKeyBytes; }
  __device__ uint32_t value_stage(int i) const { return values + i * Shape<kDim>::kValueBytes; }
  __device__ uint32_t keys_there(int i) const { return barriers + 32 * i; }
  __device__ uint32_t values_there(int i) const { return barriers + 32 * i + 8; }
  __device__ uint32_t keys_free(int i) const { return barriers + 32 * i + 16; }
  __device__ uint32_t values_free(int i) const { return barriers + 32 * i + 24; }
};

/// One thread brings the tiles of all steps, one after the other.
template <int kDim>
__device__ void bring(const PrefillPass& a, int64_t head, const Steps<Shape<kDim>::kTiles>& steps,
                      const Places<kDim>& at) {
  using S = Shape<kDim>;
  for (int n = 0; steps.first + n < steps.last; ++n) {
    const int stage = n % kStages, free = n / kStages % 2 ^ 1;  // the first round waits for nothing
    const uint8_t* tile[S::kTiles];
#pragma unroll
    for (int i = 0; i < S::kTiles; ++i)
      tile[i] = tile_at(a, head, steps, steps.first + n, i, tile_bytes(kDim));
    wait_for_phase(at.keys_free(stage), free);
    arrive_expecting(at.keys_there(stage), S::kKeyBytes);
    for (int chunk = 0; chunk < kDim / 64; ++chunk)
#pragma unroll
      for (int i = 0; i < S::kTiles; ++i)
        copy_bulk(at.key_stage(stage) + (chunk * S::kTiles + i) * kChunkBytes, tile[i] + chunk * kChunkBytes,
                  kChunkBytes, at.keys_there(stage));
    wait_for_phase(at.values_free(stage), free);
    arrive_expecting(at.values_there(stage), S::kValueBytes);
#pragma unroll
    for (int i = 0; i < S::kTiles; ++i)
      copy_bulk(at.value_stage(stage) + i * value_tile_bytes(kDim), tile[i] + key_tile_bytes(kDim),
                value_tile_bytes(kDim), at.values_there(stage));
  }
}

/// Starts the products for the scores of a step. queries: of the warpgroup.
template <int kDim>
__device__ __forceinline__ void multiply_keys(float (&s)[32 * Shape<kDim>::kTiles], uint32_t queries,
                                              uint32_t keys) {
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k)
    multiply_tiles(s, operand_at(queries + k / 4 * (64 * kRowBytes) + k % 4 * 32),
                   operand_at(keys + k / 4 * (Shape<kDim>::kTiles * kChunkBytes) + k % 4 * 32), k > 0);
  close_products();
}
/// Starts the products of weights with the values of a step.
template <int kDim>
__device__ __forceinline__ void multiply_values(float (&o)[kParts<kDim>][kPart<kDim> / 2],
                                                const uint32_t (&p)[16 * Shape<kDim>::kTiles],
                                                uint32_t values) {
  using S = Shape<kDim>;
#pragma unroll
  for (int k = 0; k < 4 * S::kTiles; ++k)
#pragma unroll
    for (int part = 0; part < kParts<kDim>; ++part)
      multiply_rows(o[part], p + 4 * k,
                    operand_at(values + k / 4 * value_tile_bytes(kDim) + part * (kPart<kDim> * kRowBytes) +
                               k % 4 * 32));
  close_products();
}

/// The work of a warpgroup, which has 64 rows.
template <int kDim, bool kRuled>
__device__ void attend(const PrefillPass& a, int sequence, int kv_head, int split, int first_row,
                       const Prefix& prefix, const Steps<Shape<kDim>::kTiles>& steps, const Places<kDim>& at,
                       uint32_t queries) {
  using S = Shape<kDim>;
  const int64_t head = int64_t(sequence) * a.n_kv_heads + kv_head;
  const int lane = threadIdx.x % 32, row = first_row + threadIdx.x / 32 % 4 * 16, r = lane / 4;
  const RowTokens token = {
      first_row / a.group, (first_row + 63) / a.group, {(row + r) / a.group, (row + 8 + r) / a.group}};
  const float factor = a.scale;
  float o[kParts<kDim>][kPart<kDim> / 2];
  RowWeights w;
#pragma unroll
  for (int part = 0; part < kParts<kDim>; ++part)
#pragma unroll
    for (int i = 0; i < kPart<kDim> / 2; ++i) o[part][i] = 0;
  if (!a.first) {
    load_weights(a, head, split, row, w);
#pragma unroll
    for (int part = 0; part < kParts<kDim>; ++part)
      load_rows<kDim>(a, head, split, row, part * kPart<kDim>, o[part]);
  }
  const int n_steps = steps.last - steps.first;
  if (n_steps > 0) {
    float s[32 * S::kTiles], shrink[2];
    uint32_t p[16 * S::kTiles];
    const auto weigh_step = [&](int n) {
      const Seen<S::kTiles, kRuled> seen(a, prefix, steps, steps.first + n, token);
      if constexpr (kRuled)
        if (a.inner > 0) cap(s, a.inner);
      if (!seen.whole) hide(s, seen);
      weigh(s, factor, w, shrink);
    };
    // This wait stands between the weights and the wait for the products that run beside them. Without it the
    // compiler would put the latter first.
    const auto wait_for_keys = [&](int n) {
      if (n < n_steps) wait_for_phase(at.keys_there(n % kStages), n / kStages % 2);
    };
    const auto shrink_outputs = [&] {
#pragma unroll
      for (int part = 0; part < kParts<kDim>; ++part) shrink_rows(o[part], shrink);
    };
    const auto pin_outputs = [&] {
#pragma unroll
      for (int part = 0; part < kParts<kDim>; ++part) pin(o[part]);
    };
    wait_for_keys(0);
    start_products();
    multiply_keys<kDim>(s, queries, at.key_stage(0));
    wait_for_products<0>();
    pin(s);
    if (lane == 0) arrive(at.keys_free(0));
    weigh_step(0);
    wait_for_keys(1);
    shrink_outputs();
    pack_weights(s, p);
#pragma unroll 1
    for (int n = 1; n < n_steps; ++n) {
      const int stage = n % kStages, before = (n - 1) % kStages;
      pin(s), pin(p), pin_outputs();
      start_products();
      multiply_keys<kDim>(s, queries, at.key_stage(stage));
      wait_for_phase(at.values_there(before), (n - 1) / kStages % 2);
      multiply_values<kDim>(o, p, at.value_stage(before));
      wait_for_products<1>();
      pin(s);
      if (lane == 0) arrive(at.keys_free(stage));
      weigh_step(n);
      pin(s);
      wait_for_keys(n + 1);
      wait_for_products<0>();
      pin(p), pin_outputs();
      if (lane == 0) arrive(at.values_free(before));
      shrink_outputs();
      pack_weights(s, p);
    }
    const int stage = (n_steps - 1) % kStages;
    wait_for_phase(at.values_there(stage), (n_steps - 1) / kStages % 2);
    pin(p), pin_outputs();
    start_products();
    multiply_values<kDim>(o, p, at.value_stage(stage));
    wait_for_products<0>();
    pin_outputs();
  }
  const bool keep = a.splits > 1 || !a.last;
  if (keep) keep_weights(a, head, split, row, w);
#pragma unroll
  for (int part = 0; part < kParts<kDim>; ++part)
    if (keep)
      keep_rows<kDim>(a, head, split, row, part * kPart<kDim>, o[part]);
    else
      write_rows<kDim>(a, sequence, kv_head, row, part * kPart<kDim>, w, o[part]);
}

/// The kernel has static shared memory where it was compiled for sm_90a. Elsewhere it is empty, which
/// launch() finds out.
template <int kDim, bool kRuled>
__global__ void __launch_bounds__(kThreads, 1) wgmma_kernel(const __grid_constant__ PrefillPass a) {
#ifdef BLOCKGTQ_SM90A
  using S = Shape<kDim>;
  extern __shared__ __align__(1024) unsigned char dynamic[];
  __shared__ __align__(16) uint64_t barriers[4 * kStages];
  unsigned char* const shared = dynamic + (-shared_address(dynamic) & 1023);
  const int kv_head = blockIdx.y, sequence = blockIdx.z / a.splits, split = blockIdx.z % a.splits;
  const int first_row = (gridDim.x - 1 - blockIdx.x) * kBlockRows,
            warpgroup = __shfl_sync(kAll, int(threadIdx.x) / 128, 0);
  Places<kDim> at;
  at.queries = shared_address(shared);
  at.keys = at.queries + kWarpgroups * S::kQueryBytes;
  at.values = at.keys + kStages * S::kKeyBytes;
  at.barriers = shared_address(barriers);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      make_barrier(at.keys_there(i), 1);
      make_barrier(at.values_there(i), 1);
      make_barrier(at.keys_free(i), 4 * kWarpgroups);  // one arrival per warp
      make_barrier(at.values_free(i), 4 * kWarpgroups);
    }
    show_barriers();
  }
  __syncthreads();
  const Prefix prefix(a, sequence);
  const Steps<S::kTiles> steps(a, prefix, first_row, first_row + kBlockRows - 1, split);
  if (warpgroup == 0) {
    give_registers<24>();
    if (threadIdx.x == 0) bring<kDim>(a, int64_t(sequence) * a.n_kv_heads + kv_head, steps, at);
  } else {
    take_registers<240>();
    const int first = first_row + 64 * (warpgroup - 1);
    put_queries<kDim, 64, 128>(a, sequence, kv_head, first, shared + (warpgroup - 1) * S::kQueryBytes);
    show_to_products();
    meet(warpgroup, 128);
    attend<kDim, kRuled>(a, sequence, kv_head, split, first, prefix, steps, at,
                         at.queries + (warpgroup - 1) * S::kQueryBytes);
  }
#endif
}

template <int kDim>
bool launch(const PrefillPass& pass, const Stream& stream) {
  const auto kernel = pass.ruled() ? wgmma_kernel<kDim, true> : wgmma_kernel<kDim, false>;
  constexpr int kBytes = Shape<kDim>::kSharedBytes;
  cudaFuncAttributes compiled{};
  check_cuda(cudaFuncGetAttributes(&compiled, kernel), "prefill attention");
  if (compiled.sharedSizeBytes == 0) return false;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
             "shared memory");
  kernel<<<dim3(pass.rows / kBlockRows, pass.n_kv_heads, pass.batch * pass.splits), kThreads, kBytes,
           raw(stream)>>>(pass);
  check_launch("prefill attention");
  return true;
}

}  // namespace

bool attend_by_wgmma(const PrefillPass& pass, const Stream& stream) {
  if (attribute(cudaDevAttrComputeCapabilityMajor) != 9 || attribute(cudaDevAttrComputeCapabilityMinor) != 0)
    return false;
  switch (pass.dim) {
    case 64:
      return launch<64>(pass, stream);
    case 128:
      return launch<128>(pass, stream);
    case 256:
      return launch<256>(pass, stream);
    default:
      return false;
  }
}

}  // namespace blockgtq::cuda
