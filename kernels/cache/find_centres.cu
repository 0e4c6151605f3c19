// Finds the nearest centre of new values in pages of scalar codes, by the rule of lib/cache/centre_rule.h.
//
// Grid: values of a head, heads. A warp takes kRows values, which lie in shared memory as float32; a lane
// has every 32nd centre. The encoder (packed_encode.cu) behind it reads what is left in the pages.
//
// Operations: M D per value, in float32 and in the order of the rule.
#include <cuda_fp16.h>

#include "cache/page_layout.h"
#include "kernels/cache/find_centres.h"
#include "kernels/cache/nearest_centre.cuh"
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/launch.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kRows = 8, kWarps = 4;

template <class T, int kDim>
__global__ void __launch_bounds__(32 * kWarps) find_kernel(const EncodeTokens job, const PackedLayer layer) {
  __shared__ __align__(16) float shared[kWarps][kRows * kDim];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head = blockIdx.y;
  const int64_t all = job.batch * job.tokens, first = (int64_t(blockIdx.x) * kWarps + warp) * kRows;
  wait_for_predecessor();
  let_successor_start();
  if (first >= all) return;
  float* const x = shared[warp];
  for (int r = 0; r < kRows; ++r) {
    const T* const from = static_cast<const T*>(job.v) +
                          ((first + r < all ? first + r : all - 1) * layer.n_kv_heads + head) * kDim;
    for (int d = lane; d < kDim; d += 32) x[r * kDim + d] = to_float(from[d]);
  }
  __syncwarp();
  NearestCentre nearest[kRows];
  nearest_centres<kDim>(layer.centres, head, x, nearest);
  const PackedTable& table =
      *reinterpret_cast<const PackedTable*>(layer.tables + int64_t(head) * layer.table_bytes);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (lane != r || first + r >= all) continue;
    const int64_t sequence = (first + r) / job.tokens, t = job.starts[sequence] + (first + r) % job.tokens;
    const int id = job.cache.block_table[sequence * job.cache.stride + t / kPagePositions];
    const int position = int(t % kPagePositions);
    uint8_t* const block = job.pages + id * layer.page_bytes + table.block_offset;
    block[table.value_centres + centre_place(position)] = uint8_t(nearest[r].number);
    reinterpret_cast<uint16_t*>(block + table.value_norms)[norm_place(position)] =
        nearest[r].keeps ? 0x8000 : 0;
  }
}

}  // namespace

void find_centres(const EncodeTokens& job, const Stream& stream) {
  const int64_t blocks = (job.batch * job.tokens + kRows * kWarps - 1) / (kRows * kWarps);
  with_dim(job.layer->dim, [&](auto dim) {
    const auto kernel =
        job.type == FloatType::bf16 ? find_kernel<__nv_bfloat16, dim.value> : find_kernel<__half, dim.value>;
    launch_early(kernel, dim3(unsigned(blocks), job.layer->n_kv_heads), 32 * kWarps, 0, stream,
                 "find centres", job, *job.layer);
  });
}

}  // namespace blockgtq::cuda
