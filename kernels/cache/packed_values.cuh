// Scores become weights, and weights times packed values become outputs: O^T (D, heads). Part of
// packed_attention.cu.
#pragma once
#include "kernels/cache/packed_scores.cuh"

namespace blockgtq::cuda {

constexpr float kWeightSteps = 65535;  // the largest weight in fixed point

/// Weights of an item as the B operands of the second product, in fixed point. The largest possible is 65535.
template <int kTiles, int kParts>
struct Weights {
  // 16 bits each: positions 2 c and 2 c + 1 of the first and the second eight of a tile, head r.
  uint32_t pairs[kTiles][kParts][2];
  float unit[kTiles][2];  // the value of one step, for heads 2 c and 2 c + 1 and centroids as bytes
  float lift[kTiles][2];  // what the weights that took the place of scores are to be multiplied with
};

/// The largest norm of a page. The whole warp calls it.
__device__ inline float largest_norm(const uint32_t (&pair)[4]) {
  const auto norms = [&](int i) { return __habs2(as_half2(pair[i])); };
  __half2 two = __hmax2(__hmax2(norms(0), norms(1)), __hmax2(norms(2), norms(3)));
#pragma unroll
  for (int apart = 4; apart < 32; apart *= 2) two = __hmax2(two, __shfl_xor_sync(kAll, two, apart));
  return fmaxf(__half2float(__hmax(__low2half(two), __high2half(two))), 1e-20f);
}

/// The largest score that an item has of head 2 c + j.
template <int kParts>
__device__ inline float largest_score(const float (&s)[kParts][4], int j) {
  float most = fmaxf(s[0][j], s[0][j + 2]);
#pragma unroll
  for (int i = 1; i < kParts; ++i) most = fmaxf(most, fmaxf(s[i][j], s[i][j + 2]));
#pragma unroll
  for (int apart = 4; apart < 32; apart *= 2) most = fmaxf(most, __shfl_xor_sync(kAll, most, apart));
  return most;
}

/// Adds up the weights of positions that do not keep their mean. weights: they have replaced the scores.
template <int kParts>
__device__ inline void add_centred(const float (&weights)[kParts][4], const uint32_t (&pair)[4], int part,
                                   float (&sum)[2]) {
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const uint32_t x = pick<4>(pair, part + i);
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (!keeps_mean(x, j / 2)) sum[j % 2] += weights[i][j];
  }
}

/// Turns the scores s into weights, in their place and as operands w. first: the state is still empty.
/// centred: values are centred.
template <int kSlabs, int kTiles, int kParts>
__device__ void weigh(State<kSlabs, kTiles>& state, Scores<kTiles, kParts>& s,
                      const float (&factor)[kTiles][2], const uint32_t (&pair)[4], int part, bool first,
                      bool centred, Weights<kTiles, kParts>& w) {
  const float largest = largest_norm(pair);  // it gives the scale of weights
  const float steps = __fdividef(kWeightSteps, largest);
  float2 norm[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    norm[i] = norms_of(pick<4>(pair, part + i));
    norm[i].x *= steps, norm[i].y *= steps;
  }

  bool grown = false;
  float shrink[kTiles][2], here[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      here[tile][j] = fmaxf(largest_score<kParts>(s[tile], j) * factor[tile][j], -1e30f);
      const float m = fmaxf(state.m[tile][j], here[tile][j]);
      grown |= m > state.m[tile][j];
      shrink[tile][j] = exp2_fast(state.m[tile][j] - m);
      state.m[tile][j] = m;
    }
  if (!first && __any_sync(kAll, grown)) shrink_state(state, shrink);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float sum[2] = {};
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      float fixed[4];  // the low 16 bits of 2^23 + x are x
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float& weight = s[tile][i][j];
        weight = exp2_fast(fmaf(weight, factor[tile][j % 2], -here[tile][j % 2]));
        sum[j % 2] += weight;
        fixed[j] = fmaf(weight, j < 2 ? norm[i].x : norm[i].y, 8388608.0f);
      }
      w.pairs[tile][i][0] =
          transpose8(permute(__float_as_uint(fixed[0]), __float_as_uint(fixed[1]), 0x5410u));
      w.pairs[tile][i][1] =
          transpose8(permute(__float_as_uint(fixed[2]), __float_as_uint(fixed[3]), 0x5410u));
    }
    float sum_centred[2] = {};
    if (centred) add_centred<kParts>(s[tile], pair, part, sum_centred);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float lift = exp2_fast(here[tile][j] - state.m[tile][j]);
      state.l[tile][j] = fmaf(sum[j], lift, state.l[tile][j]);
      state.c[tile][j] = fmaf(sum_centred[j], lift, state.c[tile][j]);
      w.lift[tile][j] = lift;
      w.unit[tile][j] = lift * largest * (1 / (kWeightSteps * kByteOne));
    }
  }
}

/// The high and the low bytes of a tile's weights: positions 2 c, 2 c + 1, 8 + 2 c, 9 + 2 c.
template <int kTiles, int kParts>
__device__ inline uint2 weight_bytes(const Weights<kTiles, kParts>& w, int tile, int i) {
  return {permute(w.pairs[tile][i][0], w.pairs[tile][i][1], 0x7531u),
          permute(w.pairs[tile][i][0], w.pairs[tile][i][1], 0x6420u)};
}

/// o += one slab's bytes times the weights, plus an excess: what kZero reads as, times w.unit. look(i, x, y)
/// gives the centroids of tile i.
template <int kTiles, int kParts, class LookUp>
__device__ inline void add_bytes(float (&o)[kTiles][4], const Weights<kTiles, kParts>& w,
                                 const uint2 (&b)[kTiles][kParts], const Zero& zero, LookUp look) {
  int high[kTiles][4], low[kTiles][4];
#pragma unroll
  for (int i = 0; i < kParts; i += 2) {
    uint32_t a[4] = {};  // where there is a single tile the rest is zero
    look(i, a[0], a[1]);
    if constexpr (kParts > 1) look(i + 1, a[2], a[3]);
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint2 first = b[tile][i], second = kParts > 1 ? b[tile][(i + 1) % kParts] : uint2{};
      if (i == 0) {
        mma_first<true>(high[tile], a, first.x, second.x, zero);
        mma_first<true>(low[tile], a, first.y, second.y, zero);
      } else {
        mma<true>(high[tile], a, first.x, second.x);
        mma<true>(low[tile], a, first.y, second.y);
      }
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float sum = fmaf(__int_as_float(high[tile][j]) - kZeroRead, 256.0f, __int_as_float(low[tile][j]));
      o[tile][j] = fmaf(sum, w.unit[tile][j % 2], o[tile][j]);
    }
}

/// The same for fp16 centroids, with weights as fp16 at half their value.
template <int kTiles, int kParts>
__device__ inline void add_halves(float (&o)[kTiles][4], const Weights<kTiles, kParts>& w, const Operands& a,
                                  int part) {
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (kParts == 4 || i / kParts == part / kParts) {
        uint32_t b[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint32_t x = w.pairs[tile][i % kParts][half];
          b[half] = pack2(float(x & 0xffffu) * 0.5f, float(x >> 16) * 0.5f);
        }
        mma(sum, a[i], b[0], b[1]);
      }
#pragma unroll
    for (int j = 0; j < 4; ++j)
      o[tile][j] = fmaf(fmaf(sum[j], 2 * kByteOne, kZeroRead), w.unit[tile][j % 2], o[tile][j]);
  }
}

/// o += values times weights, plus the excess. Rows of slabs that are not stored have the excess only,
/// and B_v is zero there. With several key widths odd lanes read the book's second copy. If all lanes
/// read the same one, the compiler may move it to uniform registers, which permutations cannot read: 50
/// moves per page.
template <int kSlabs, int kTiles, int kParts, int kKeyBits, int kBits, int kStateSlabs>
__device__ void add_values(State<kStateSlabs, kTiles>& state, const uint8_t* block, const uint8_t* shared,
                           const HeldTable<kKeyBits, kBits>& table, const Weights<kTiles, kParts>& w,
                           int part, const Zero& zero) {
  const int lane = threadIdx.x % 32;
  uint2 b[kTiles][kParts];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < kParts; ++i) b[tile][i] = weight_bytes<kTiles, kParts>(w, tile, i);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int j = 0; j < 2; ++j)
      state.excess[tile][j] = fmaf(kZeroRead, w.unit[tile][j], state.excess[tile][j]);
  if constexpr (kBits > 0) {
    const uint8_t* codes = block + table.value_codes;
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      uint32_t words[kBits];
      load_words<kBits>(words, codes + slab * 128 * kBits, lane, false);
      add_bytes<kTiles, kParts>(state.o[slab], w, b, zero, [&](int i, uint32_t& x, uint32_t& y) {
        look_up<kBits>(table.value_book, nibbles<kBits>(words, part + i), x, y);
      });
    }
  } else {
    const PackedTable& t = *reinterpret_cast<const PackedTable*>(shared);
    const UnitEntry* units = units_of(shared) + 4 * t.key_slabs;
#pragma unroll 1
    for (int slab = 0; slab < t.value_slabs; ++slab) {
      const UnitEntry e = units[8 * slab + lane / 4];
      if (t.wide_values >> slab & 1) {
        Operands a;
        unpack(e, block, shared, lane % 4, a);
#pragma unroll
        for (int k = 0; k < kSlabs; ++k)
          if (k == slab) add_halves<kTiles, kParts>(state.o[k], w, a, part);
      } else {
        Bytes a;
        unpack(e, block, shared, lane % 4, a);
        const auto look = [&](int i, uint32_t& x, uint32_t& y) {
#pragma unroll
          for (int k = 0; k < 4; ++k)
            if (k == part + i) x = a[k][0], y = a[k][1];
        };
#pragma unroll
        for (int k = 0; k < kSlabs; ++k)
          if (k == slab) add_bytes<kTiles, kParts>(state.o[k], w, b, zero, look);
      }
    }
  }
}

}  // namespace blockgtq::cuda
