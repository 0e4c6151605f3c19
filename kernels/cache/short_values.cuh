// The weights of all positions that a block holds, and its values times the weights. Part of
// short_attention.cu.
#pragma once
#include "kernels/cache/packed_values.cuh"

namespace blockgtq::cuda {

constexpr int kWarps = 8;                        // of a block
constexpr int kMostPages = kWarps, kAtOnce = 4;  // pages of a block; pages whose values are read together

/// What the warps of a block tell each other.
struct Exchange {
  float2 most[kWarps][4];      // of heads 2 c and 2 c + 1
  float2 sums[kWarps][32];     // lane by lane
  float2 centred[kWarps][32];  // of the weights of positions that do not keep their mean
  float norms[kWarps];
};

/// The largest score and norm of the whole block.
struct Largest {
  float score[2];  // of heads 2 c and 2 c + 1, times the factor
  float norm;
};
__device__ inline Largest largest_of(const Exchange& x) {
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const float2 most = x.most[r][c];
  Largest y{{most.x, most.y}, x.norms[r]};
#pragma unroll
  for (int apart = 4; apart < 32; apart *= 2) {
#pragma unroll
    for (int j = 0; j < 2; ++j) y.score[j] = fmaxf(y.score[j], __shfl_xor_sync(kAll, y.score[j], apart));
    y.norm = fmaxf(y.norm, __shfl_xor_sync(kAll, y.norm, apart));
  }
  y.norm = fmaxf(y.norm, 1e-20f);
  return y;
}

/// Turns the scores of an item into weights times norms in fixed point, of which the largest possible is
/// 65535. weights: of the item's page, (2, 32) words {high bytes of two tiles, low bytes of two tiles}. sums:
/// of this lane's weights, which take the place of the scores.
template <int kParts>
__device__ inline void weigh_block(Scores<1, kParts>& s, const float (&factor)[2], const uint32_t (&pair)[4],
                                   const Largest& largest, int part, uint4* weights, float (&sums)[2]) {
  const float steps = __fdividef(kWeightSteps, largest.norm);
  uint32_t* const words = reinterpret_cast<uint32_t*>(weights + threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    float2 norm = norms_of(pick<4>(pair, part + i));
    norm.x *= steps, norm.y *= steps;
    float fixed[4];  // the low 16 bits of 2^23 + x are x
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float& weight = s[0][i][j];
      weight = exp2_fast(fmaf(weight, factor[j % 2], -largest.score[j % 2]));
      sums[j % 2] += weight;
      fixed[j] = fmaf(weight, j < 2 ? norm.x : norm.y, 8388608.0f);
    }
    const uint32_t near = transpose8(permute(__float_as_uint(fixed[0]), __float_as_uint(fixed[1]), 0x5410u));
    const uint32_t far = transpose8(permute(__float_as_uint(fixed[2]), __float_as_uint(fixed[3]), 0x5410u));
    uint32_t* const to = words + (part + i) / 2 * 128 + (part + i) % 2;
    to[0] = permute(near, far, 0x7531u);
    to[2] = permute(near, far, 0x6420u);
  }
}

/// o (rows r and r + 8 of a slab, heads 2 c and 2 c + 1) = values times weights of every kStep-th page from
/// `first` on. There are weights for a multiple of kAtOnce pages. unit: the value of one step of the weights.
template <int kBits, int kStep>
__device__ void sum_values(float (&o)[4], int slab, const uint8_t* pages, int stage_bytes, int first,
                           int n_pages, const uint8_t* shared, const PackedTable& t, const uint4* weights,
                           float unit) {
  const int lane = threadIdx.x % 32;
  const UnitEntry* const units = units_of(shared) + 4 * t.key_slabs;
#pragma unroll
  for (int j = 0; j < 4; ++j) o[j] = 0;
  if (slab >= t.value_slabs) return;
  int high[2][4] = {}, low[2][4] = {};
  const auto add = [&](int half, const uint32_t(&a)[4], const uint4& w) {
    mma<true>(high[half], a, w.x, w.y);
    mma<true>(low[half], a, w.z, w.w);
  };
  if constexpr (kBits > 0) {
    const uint8_t* const codes = pages + units->offset + slab * 128 * kBits;
    const ByteBook book =
        *reinterpret_cast<const ByteBook*>(shared + units->book + lane % 2 * 16);  // see add_values()
    // Pages behind the last have weights of zero.
#pragma unroll 1
    for (int base = 0; base < n_pages; base += kAtOnce) {
#pragma unroll
      for (int i = 0; i < kAtOnce; i += kStep) {
        const int page = base + i + (kStep > 1 ? first : 0);
        uint32_t words[kBits];
        load_words<kBits>(words, codes + page * stage_bytes, lane, false);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint32_t a[4];
          look_up<kBits>(book, nibbles<kBits>(words, 2 * half), a[0], a[1]);
          look_up<kBits>(book, nibbles<kBits>(words, 2 * half + 1), a[2], a[3]);
          add(half, a, weights[(2 * page + half) * 32 + lane]);
        }
      }
    }
  } else {
    const UnitEntry e = units[8 * slab + lane / 4];
    const bool wide = t.wide_values >> slab & 1;
    float sum[4] = {};
#pragma unroll 1
    for (int page = first; page < n_pages; page += kStep) {
      const uint8_t* const block = pages + page * stage_bytes;
      if (wide) {
        Operands a;
        unpack(e, block, shared, lane % 4, a);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint4 w = weights[(2 * page + i / 2) * 32 + lane];
          const uint32_t top = i % 2 ? w.y : w.x, rest = i % 2 ? w.w : w.z;
          uint32_t b[2];  // at half their value
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const uint32_t x = permute(rest, top, k ? 0x7362u : 0x5140u);
            b[k] = pack2(float(x & 0xffffu) * 0.5f, float(x >> 16) * 0.5f);
          }
          mma(sum, a[i], b[0], b[1]);
        }
      } else {
        Bytes a;
        unpack(e, block, shared, lane % 4, a);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint32_t both[4] = {a[2 * half][0], a[2 * half][1], a[2 * half + 1][0], a[2 * half + 1][1]};
          add(half, both, weights[(2 * page + half) * 32 + lane]);
        }
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) o[j] = sum[j] * (2 * kByteOne * unit);
  }
#pragma unroll
  for (int j = 0; j < 4; ++j)
    o[j] = fmaf(fmaf(float(high[0][j] + high[1][j]), 256.0f, float(low[0][j] + low[1][j])), unit, o[j]);
}

}  // namespace blockgtq::cuda
