// Attention of a chunk of new tokens over a prefix and causally over itself: one softmax over fp16 tiles.
//
//   1. Keys and values become tiles: packed ones are decoded, exact ones and the chunk's are copied
//      (prefill_tiles.cu).
//   2. Rows of queries attend to the tiles (prefill_wgmma.cu; prefill_mma.cu where there is no sm_90a).
//   3. Where the work of rows was cut, its parts are added up (here).
//
// Packed codes are decoded once per chunk, not once per block of rows: 4 D bytes are written per position,
// and every block reads them from L2. A prefix that wants more than PrefillOptions::most_bytes is walked in
// pieces, with steps 1 and 2 for each. Outputs and weights stay in scratch, in float32, from piece to piece.
// Few rows are spread over more blocks by splitting what they attend to (split-K).
#include <algorithm>

#include "kernels/cache/packed_prefill.h"
#include "kernels/cache/prefill_rows.cuh"
#include "kernels/device/float_type.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kMostParts = 64;
constexpr int64_t kMostPartBytes = int64_t(64) << 20;  // of all parts
constexpr int kFewestPositions = 1024;                 // of a part
constexpr double kPartCost = 350;                      // what a part's way through memory costs, in positions

/// One warp per row of queries adds up the parts of its work, each of which is relative to its own maximum.
__global__ void __launch_bounds__(256) add_kernel(const PrefillPass a) {
  const int lane = threadIdx.x % 32, row = blockIdx.x * 8 + threadIdx.x / 32, token = row / a.group;
  const int kv_head = blockIdx.y, sequence = blockIdx.z;
  const int64_t head = int64_t(sequence) * a.n_kv_heads + kv_head;
  if (token >= a.tokens) return;
  float most = -INFINITY, sum = 0;
  for (int i = 0; i < a.splits; ++i) most = fmaxf(most, a.weights[2 * kept_at(a, head, i, row)]);
  for (int i = 0; i < a.splits; ++i) {
    const float* w = a.weights + 2 * kept_at(a, head, i, row);
    sum += w[1] * exp2_fast(w[0] - most);
  }
  sum += sink_weight(a, kv_head * a.group + row % a.group, most);
  for (int d = 2 * lane; d < a.dim; d += 64) {
    float2 y{};
    for (int i = 0; i < a.splits; ++i) {
      const int64_t at = kept_at(a, head, i, row);
      const float part = exp2_fast(a.weights[2 * at] - most);
      const float2 x = *reinterpret_cast<const float2*>(a.sums + at * a.dim + d);
      y.x = fmaf(x.x, part, y.x), y.y = fmaf(x.y, part, y.y);
    }
    *reinterpret_cast<uint32_t*>(
        a.out +
        ((int64_t(sequence) * a.tokens + token) * a.n_heads + kv_head * a.group + row % a.group) * a.dim +
        d) = pack2(y.x / sum, y.y / sum);
  }
}

constexpr int64_t divide_up(int64_t n, int64_t by) {
  return (n + by - 1) / by;
}
constexpr int64_t even_up(int64_t n) {
  return divide_up(n, 2) * 2;
}

/// Into how many parts the work of blocks of rows is cut, so that the last wave of blocks is full, or nearly.
int parts_of(int64_t blocks, int64_t positions, int dim) {
  const int sms = attribute(cudaDevAttrMultiProcessorCount);
  const int64_t most = std::min({int64_t(kMostParts), positions / kFewestPositions,
                                 kMostPartBytes / (blocks * kBlockRows * (dim + 2) * 4)});
  int best = 1;
  double least = double(divide_up(blocks, sms));  // in units of the time of a block that is not cut
  for (int n = 2; n <= most; ++n) {
    const double time =
        double(divide_up(blocks * n, sms)) / n + double(blocks * n) / sms * kPartCost / double(positions);
    if (time < least) least = time, best = n;
  }
  return best;
}

/// What all pieces have in common; `pass` is the first of them. tiles: of the longest possible prefix.
struct Plan {
  PrefillPass pass{};
  int64_t tiles = 0, bytes = 0;
  Plan(const PrefillAttention& chunk, const PrefillOptions& options, void* scratch);
};

Plan::Plan(const PrefillAttention& chunk, const PrefillOptions& options, void* scratch) {
  PrefillPass& p = pass;
  p.dim = chunk.layer ? chunk.layer->dim : chunk.dim;
  p.n_heads = chunk.layer ? chunk.layer->n_heads : chunk.n_heads;
  p.n_kv_heads = chunk.layer ? chunk.layer->n_kv_heads : chunk.n_kv_heads;
  check(p.dim > 0 && p.n_kv_heads > 0 && p.n_heads > 0 && p.n_heads % p.n_kv_heads == 0 && chunk.batch > 0 &&
            chunk.tokens > 0 && chunk.longest >= 0 && chunk.first_page >= 0,
        "prefill_attention: shape");
  p.group = p.n_heads / p.n_kv_heads;
  check(chunk.tokens * p.group < (int64_t(1) << 30) && chunk.longest < (int64_t(1) << 31) &&
            p.n_kv_heads < (1 << 15),
        "prefill_attention: heads or tokens");
  p.batch = chunk.batch;
  p.tokens = int(chunk.tokens);
  p.first_page = chunk.first_page;
  int64_t positions = chunk.tokens;
  if (chunk.layer) {
    p.packed = chunk.cache;
    tiles += std::max<int64_t>(divide_up(chunk.longest, kPagePositions) - p.first_page, 0);
  }
  if (chunk.exact) {
    p.exact = chunk.exact->cache;
    tiles += divide_up(chunk.exact->longest, kPagePositions);
  }
  positions += tiles * kPagePositions;
  if (chunk.rule.window > 0) positions = std::min(positions, chunk.tokens + chunk.rule.window);
  const int64_t heads = int64_t(p.batch) * p.n_kv_heads, each = heads * tile_bytes(p.dim);
  p.room = int(std::min(even_up(tiles), std::max<int64_t>(options.most_bytes / each / 2 * 2, 2)));
  p.chunk_tiles = int(even_up(divide_up(chunk.tokens, kPagePositions)));
  p.rows = int(divide_up(chunk.tokens * p.group, kBlockRows) * kBlockRows);
  p.splits = parts_of(p.rows / kBlockRows * heads, positions, p.dim);
  check(int64_t(p.batch) * p.splits <= 65535, "prefill_attention: batch");
  p.q = static_cast<const __half*>(chunk.q);
  p.k = static_cast<const __half*>(chunk.k);
  p.v = static_cast<const __half*>(chunk.v);
  p.out = static_cast<__half*>(chunk.out);
  check(chunk.rule.window >= 0 && chunk.rule.softcap >= 0, "prefill_attention: window and cap");
  const float cap = chunk.rule.softcap;
  p.scale = std::max((cap > 0 ? cap : chunk.scale) * kLog2e, 1e-30f);
  p.inner = cap > 0 ? 2 * kLog2e * chunk.scale / cap : 0;
  p.window = int(std::min<int64_t>(chunk.rule.window, INT32_MAX / 2));
  p.sinks = chunk.rule.sinks;
  p.first = true;
  p.last = tiles <= p.room;

  const auto take = [&](int64_t n) {
    uint8_t* const here = scratch ? static_cast<uint8_t*>(scratch) + bytes : nullptr;
    bytes += divide_up(n, 128) * 128;
    return here;
  };
  p.prefix = take(each * p.room);
  p.chunk = take(each * p.chunk_tiles);
  if (!p.kept()) return;
  p.sums = reinterpret_cast<float*>(take(p.splits * heads * p.rows * p.dim * 4));
  p.weights = reinterpret_cast<float*>(take(p.splits * heads * p.rows * 2 * 4));
}

/// Calls f(pass) for all pieces.
template <class F>
void for_pieces(const Plan& plan, F f) {
  PrefillPass pass = plan.pass;
  for (int64_t first = 0; pass.first || !pass.last; first += pass.room) {
    pass.first_tile = int(first);
    pass.last = first + pass.room >= plan.tiles;
    f(pass);
    pass.first = false;
  }
}

void check_arguments(const PrefillAttention& chunk, const void* scratch) {
  check(chunk.k && chunk.v && scratch && aligned(chunk.q, 16) && aligned(scratch, 128),
        "prefill_attention: arguments");
  if (!chunk.layer) return;
  check(!chunk.trellis || chunk.layer == &chunk.trellis->packed, "prefill_attention: codes of another layer");
  check(chunk.layer->key_expand && chunk.layer->value_expand, "prefill_attention: pages of other codes");
  check(chunk.layer->key_slabs <= chunk.layer->dim / 16 + 1 &&
            chunk.layer->value_slabs <= chunk.layer->dim / 16,
        "prefill_attention: coordinates");
}

}  // namespace

int64_t prefill_scratch_bytes(const PrefillAttention& chunk, const PrefillOptions& options) {
  return Plan(chunk, options, nullptr).bytes;
}

void prefill_attention(const PrefillAttention& chunk, void* scratch, const Stream& stream,
                       const PrefillOptions& options) {
  check(chunk.q && chunk.out, "prefill_attention: arguments");
  check_arguments(chunk, scratch);
  const Plan plan(chunk, options, scratch);
  for_pieces(plan, [&](const PrefillPass& pass) {
    lay_tiles(pass, chunk.layer, chunk.trellis, stream);
    if (options.any_device || !attend_by_wgmma(pass, stream)) attend_by_mma(pass, stream);
  });
  const PrefillPass& p = plan.pass;
  if (p.splits == 1) return;
  add_kernel<<<dim3(unsigned(divide_up(int64_t(p.tokens) * p.group, 8)), p.n_kv_heads, p.batch), 256, 0,
               raw(stream)>>>(p);
  check_launch("prefill attention");
}

void expand_for_prefill(const PrefillAttention& chunk, void* scratch, const Stream& stream) {
  check_arguments(chunk, scratch);
  const Plan plan(chunk, {}, scratch);
  for_pieces(plan, [&](const PrefillPass& pass) { lay_tiles(pass, chunk.layer, chunk.trellis, stream); });
}

}  // namespace blockgtq::cuda
