// Sums of weights by the centre of their position's value, which are more rows of the second product's
// result:
//
//   C^T (centres, heads)  += N^T (centres, positions) P^T (positions, heads)
//
// N is one where a position has the centre of this number, else zero. It is made in registers by a comparison
// per two entries. The weights are those of the first product alone, without norms, rounded to fp16. The sums
// belong to a warp and are added up in a fixed order, as all of its result. merge.cu multiplies them with the
// centres.
//
// Sums in shared memory that a block's warps add to would have no common maximum to be relative to, and their
// order would change from run to run.
#pragma once
#include "kernels/cache/packed_values.cuh"

namespace blockgtq::cuda {

/// Adds an item's weights, which have replaced the scores, to the last kCentreSlabs of the state's slabs, but
/// those of positions that keep their mean. centres: the bytes of the page (cache/page_layout.h).
template <int kCentreSlabs, int kSlabs, int kTiles, int kParts>
__device__ void add_to_centres(State<kSlabs, kTiles>& state, const Scores<kTiles, kParts>& weights,
                               const Weights<kTiles, kParts>& w, const uint32_t (&pair)[4], int part,
                               const uint8_t* centres) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const uint4 bytes = reinterpret_cast<const uint4*>(centres)[c];
  const uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
  // 1024 + number as fp16, of positions 2 c and 2 c + 1, and of 8 + 2 c and 9 + 2 c.
  uint32_t numbers[kParts][2], b[kTiles][kParts][2];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const uint32_t word = pick<4>(words, part + i), norms = pick<4>(pair, part + i);
    numbers[i][0] = permute(word, 0x64646464u, 0x4140u);
    numbers[i][1] = permute(word, 0x64646464u, 0x4342u);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint32_t x = pack2(weights[tile][i][2 * half], weights[tile][i][2 * half + 1]);
        b[tile][i][half] = transpose8(keeps_mean(norms, half) ? 0 : x);
      }
  }
  const auto equal = [](uint32_t x, __half2 y) {
    const __half2 h = __heq2(as_half2(x), y);
    return *reinterpret_cast<const uint32_t*>(&h);
  };
#pragma unroll
  for (int slab = 0; slab < kCentreSlabs; ++slab) {
    const float row = float(1024 + 16 * slab + r);
    const __half2 near = __float2half2_rn(row), far = __float2half2_rn(row + 8);
    float sum[kTiles][4] = {};
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const uint32_t a[4] = {equal(numbers[i][0], near), equal(numbers[i][0], far),
                             equal(numbers[i][1], near), equal(numbers[i][1], far)};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) mma(sum[tile], a, b[tile][i][0], b[tile][i][1]);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float& o = state.o[kSlabs - kCentreSlabs + slab][tile][j];
        o = fmaf(sum[tile][j], w.lift[tile][j % 2], o);
      }
  }
}

}  // namespace blockgtq::cuda
