// What a chunk's attention is prepared with, and its inner part. Part of packed_prefill.cu.
#pragma once
#include "kernels/cache/packed_attention.h"
#include "kernels/cache/packed_tiles.cuh"

namespace blockgtq::cuda {

/// Of both kernels. Operands in fragment order, 16 bytes per lane.
struct PrefillArguments {
  PackedLayer layer;
  PageTable cache;
  const __half *q, *k, *v;
  __half* out;
  uint4* turned;  // (B, H, row tiles, key_slabs, 32): rows of B^T q
  uint4* plain;   // (B, H, row tiles, D / 16, 32): rows of q
  uint4* chunk;   // (B, H, chunk tiles, 2, D / 16, 4, 32): k and v as tiles
  uint4* mean;    // (H, pages, key_slabs, 4, 32): F R_t mean as tiles; null: keys are not centred
  float scale;    // times log2(e)
  int batch, tokens, group;
  int row_tiles, chunk_tiles, pages;  // of 16 rows, 64 tokens, 64 positions
  int stage_bytes, buffers;           // of a page's block; tiles in shared memory, 1 or 2
};

__device__ inline uint32_t word(const __half* p) {
  return *reinterpret_cast<const uint32_t*>(p);
}

/// Sixteen rows (token, head of the group) of q, plain and times the query map.
template <int kDim>
__device__ void prepare_rows(const PrefillArguments& a, int tile, int kv_head, int sequence) {
  constexpr int kSteps = kDim / 16;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  uint32_t b[kSteps][2][2];  // depth, rows r and 8 + r, halves of the depth
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const int row = 16 * tile + 8 * n + r, token = row / a.group;
    const __half* q =
        a.q +
        ((int64_t(sequence) * a.tokens + token) * a.layer.n_heads + kv_head * a.group + row % a.group) * kDim;
#pragma unroll
    for (int k = 0; k < kSteps; ++k)
#pragma unroll
      for (int i = 0; i < 2; ++i) b[k][n][i] = token < a.tokens ? word(q + 16 * k + 8 * i + 2 * c) : 0;
  }
  const int64_t place = (int64_t(sequence) * a.layer.n_kv_heads + kv_head) * a.row_tiles + tile;
#pragma unroll
  for (int k = 0; k < kSteps; ++k)
    a.plain[(place * kSteps + k) * 32 + lane] = {b[k][0][0], b[k][1][0], b[k][0][1], b[k][1][1]};
  const int slabs = a.layer.key_slabs;
  const uint4* map = static_cast<const uint4*>(a.layer.slab_map) + int64_t(kv_head) * slabs * kSteps * 32;
  const UnitEntry* units = units_of(a.layer.tables + int64_t(kv_head) * a.layer.table_bytes);
#pragma unroll 1
  for (int slab = 0; slab < slabs; ++slab) {
    float y[2][4] = {};  // place r or 8 + r, rows 2 c and the next
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const uint4 m = map[(slab * kSteps + k) * 32 + lane];
      const uint32_t operand[4] = {m.x, m.y, m.z, m.w};
      mma(y[0], operand, b[k][0][0], b[k][0][1]);
      mma(y[1], operand, b[k][1][0], b[k][1][1]);
    }
    const float unit = unit_of(units[4 * slab + r / 2]);
    a.turned[(place * slabs + slab) * 32 + lane] = {
        transpose8(pack2(y[0][0] * unit, y[0][1] * unit)), transpose8(pack2(y[1][0] * unit, y[1][1] * unit)),
        transpose8(pack2(y[0][2] * unit, y[0][3] * unit)), transpose8(pack2(y[1][2] * unit, y[1][3] * unit))};
  }
}

/// Sixteen tokens of k and v; zeros behind the last.
template <int kDim>
__device__ void prepare_chunk(const PrefillArguments& a, int sixteenth, int kv_head, int sequence) {
  constexpr int kSlabs = kDim / 16;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const int first = 16 * sixteenth + r;
  const int64_t stride = int64_t(a.layer.n_kv_heads) * kDim;
  const int64_t at = (int64_t(sequence) * a.tokens + first) * stride + kv_head * kDim + 2 * c;
  const bool near = first < a.tokens, far = first + 8 < a.tokens;
  uint4* to = a.chunk +
              ((int64_t(sequence) * a.layer.n_kv_heads + kv_head) * a.chunk_tiles + sixteenth / 4) * 2 *
                  kSlabs * 128 +
              sixteenth % 4 * 32 + lane;
#pragma unroll 2
  for (int slab = 0; slab < kSlabs; ++slab) {
    const __half *k = a.k + at + 16 * slab, *v = a.v + at + 16 * slab;
    to[slab * 128] = {near ? word(k) : 0, far ? word(k + 8 * stride) : 0, near ? word(k + 8) : 0,
                      far ? word(k + 8 * stride + 8) : 0};
    to[(kSlabs + slab) * 128] =
        transpose16(near ? word(v) : 0, near ? word(v + 8) : 0, far ? word(v + 8 * stride) : 0,
                    far ? word(v + 8 * stride + 8) : 0);
  }
}

/// F R_t mean of sixteen positions: R_t mean is a sum over the blocks of cos and sin times fixed vectors.
template <int kDim>
__device__ void prepare_mean(const PrefillArguments& a, int sixteenth, int kv_head) {
  constexpr int kSteps = kDim / 16;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const int page = sixteenth / 4, part = sixteenth % 4, slabs = a.layer.key_slabs;
  const float2* start = reinterpret_cast<const float2*>(a.layer.page_angles) + int64_t(page) * (kDim / 2);
  const float2* turns = reinterpret_cast<const float2*>(a.layer.turns) + (16 * part + r) * (kDim / 2);
  uint32_t angles[kSteps][4];
#pragma unroll
  for (int k = 0; k < kSteps; ++k)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int block = 8 * k + j / 2 * 4 + c;
      const float2 x = start[block], y = turns[j % 2 * 8 * (kDim / 2) + block];
      angles[k][j] = pack2(x.x * y.x - x.y * y.y, x.y * y.x + x.x * y.y);
    }
  const uint4* map = static_cast<const uint4*>(a.layer.mean_forward) + int64_t(kv_head) * slabs * kSteps * 32;
  uint4* to = a.mean + (int64_t(kv_head) * a.pages + page) * slabs * 128 + part * 32 + lane;
#pragma unroll 1
  for (int slab = 0; slab < slabs; ++slab) {
    float y[2][4] = {};  // positions r and 8 + r, places 2 c (8 + 2 c) and the next
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const uint4 m = map[(slab * kSteps + k) * 32 + lane];
      mma(y[0], angles[k], m.x, m.y);
      mma(y[1], angles[k], m.z, m.w);
    }
    to[slab * 128] = {pack2(y[0][0], y[0][1]), pack2(y[0][2], y[0][3]), pack2(y[1][0], y[1][1]),
                      pack2(y[1][2], y[1][3])};
  }
}

/// A warp for every sixteen rows, tokens or positions.
template <int kDim>
__global__ void __launch_bounds__(256) prepare_kernel(const PrefillArguments a) {
  const int heads = a.layer.n_kv_heads, all = a.batch * heads;
  const int64_t rows = int64_t(all) * a.row_tiles, tokens = int64_t(all) * a.chunk_tiles * 4;
  const int64_t positions = a.mean ? int64_t(heads) * a.pages * 4 : 0;
  for (int64_t i = int64_t(blockIdx.x) * 8 + threadIdx.x / 32; i < rows + tokens + positions;
       i += int64_t(gridDim.x) * 8) {
    if (i < rows) {
      const int which = int(i / a.row_tiles);
      prepare_rows<kDim>(a, int(i % a.row_tiles), which % heads, which / heads);
    } else if (i < rows + tokens) {
      const int which = int((i - rows) / (4 * a.chunk_tiles));
      prepare_chunk<kDim>(a, int((i - rows) % (4 * a.chunk_tiles)), which % heads, which / heads);
    } else {
      const int64_t at = i - rows - tokens;
      prepare_mean<kDim>(a, int(at % (4 * a.pages)), int(at / (4 * a.pages)));
    }
  }
}

/// The running result of a warp: 16 kTiles rows. Row r (and 8 + r, second) of tile m.
template <int kDim, int kTiles>
struct RowState {
  float o[kTiles][kDim / 8][4] = {};  // places 8 n + 2 c and the next, rows r and 8 + r
  float m[kTiles][2], l[kTiles][2];   // maximum of all lanes, in powers of two; sum of this lane's
};

/// 64 positions in order from `base`: a row sees those up to `last`. q: this lane's words (tile, slab, 32);
/// keys and values likewise. norms: of the keys, two by two, or null. factor: of the scores, in powers of
/// two.
template <int kDim, int kTiles>
__device__ __forceinline__ void attend(RowState<kDim, kTiles>& state, const uint4* q, int slabs,
                                       const uint4* keys, const uint4* values, const float2* norms,
                                       float factor, int base, const int (&last)[kTiles][2], bool masked) {
  constexpr int kSlabs = kDim / 16;
  float s[kTiles][8][4] = {};
  const auto multiply = [&](int slab) {
    uint4 rows[kTiles];
#pragma unroll
    for (int m = 0; m < kTiles; ++m) rows[m] = q[(m * slabs + slab) * 32];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 k = keys[(4 * slab + i) * 32];
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        const uint32_t operand[4] = {rows[m].x, rows[m].y, rows[m].z, rows[m].w};
        mma(s[m][2 * i], operand, k.x, k.z);
        mma(s[m][2 * i + 1], operand, k.y, k.w);
      }
    }
  };
#pragma unroll
  for (int slab = 0; slab < kSlabs; ++slab) multiply(slab);
  if (slabs > kSlabs) multiply(kSlabs);  // halves of units make one more
  const int c = threadIdx.x % 4;
  if (norms)
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float2 norm = norms[4 * n + c];
#pragma unroll
      for (int m = 0; m < kTiles; ++m)
#pragma unroll
        for (int j = 0; j < 4; ++j) s[m][n][j] *= j % 2 ? norm.y : norm.x;
    }
  if (masked) {
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
      for (int n = 0; n < 8; ++n)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (base + 8 * n + 2 * c + j % 2 > last[m][j / 2]) s[m][n][j] = -INFINITY;
  }
  bool grown = false;
  float shrink[kTiles][2];
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float most = -INFINITY;
#pragma unroll
      for (int n = 0; n < 8; ++n) most = fmaxf(most, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
      most = fmaxf(most, __shfl_xor_sync(kAll, most, 1));
      most = fmaxf(most, __shfl_xor_sync(kAll, most, 2));
      const float now = fmaxf(state.m[m][h], most * factor);
      grown |= now > state.m[m][h];
      shrink[m][h] = exp2_fast(state.m[m][h] - now);
      state.m[m][h] = now;
    }
  if (__any_sync(kAll, grown)) {
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) state.l[m][h] *= shrink[m][h];
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
        for (int j = 0; j < 4; ++j) state.o[m][n][j] *= shrink[m][j / 2];
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t p[kTiles][4];  // the scores' places are the operand's
#pragma unroll
    for (int m = 0; m < kTiles; ++m)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int n = 2 * i + j / 2, h = j % 2;
        const float x = exp2_fast(fmaf(s[m][n][2 * h], factor, -state.m[m][h]));
        const float y = exp2_fast(fmaf(s[m][n][2 * h + 1], factor, -state.m[m][h]));
        state.l[m][h] += x + y;
        p[m][j] = pack2(x, y);
      }
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      const uint4 v = values[(4 * slab + i) * 32];
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        mma(state.o[m][2 * slab], p[m], v.x, v.z);
        mma(state.o[m][2 * slab + 1], p[m], v.y, v.w);
      }
    }
  }
}

/// The sum of all lanes of a row.
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(kAll, x, 1);
  return x + __shfl_xor_sync(kAll, x, 2);
}

/// The end of the prefix: o becomes B_v o plus the mean, in plain coordinates; weights stay.
template <int kDim, int kTiles>
__device__ void turn_back(RowState<kDim, kTiles>& state, const PackedLayer& layer, const uint8_t* table,
                          int kv_head) {
  constexpr int kSlabs = kDim / 16;
  const int lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
  const PackedTable& t = *reinterpret_cast<const PackedTable*>(table);
  const UnitEntry* units = units_of(table) + 4 * t.key_slabs;
  uint32_t rows[kSlabs][kTiles][4];
  float total[kTiles][2];
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
    float inverse[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total[m][h] = row_sum(state.l[m][h]);
      inverse[h] = total[m][h] > 0 ? 1 / total[m][h] : 0.0f;
      state.l[m][h] = c == 0 ? total[m][h] : 0.0f;
    }
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      const bool there = slab < t.value_slabs;
      const float left = there ? unit_of(units[8 * slab + 2 * c]) : 0.0f;
      const float right = there ? unit_of(units[8 * slab + 2 * c + 1]) : 0.0f;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* o = &state.o[m][2 * slab + j / 2][j % 2 * 2];
        rows[slab][m][j] = pack2(o[0] * inverse[j % 2] * left, o[1] * inverse[j % 2] * right);
      }
    }
  }
  const __half* back = static_cast<const __half*>(layer.value_back) +
                       (int64_t(kv_head) * 16 * layer.value_slabs + r) * kDim + 2 * c;
#pragma unroll
  for (int to = 0; to < kSlabs; ++to) {
    float y[kTiles][2][4] = {};
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      if (slab >= layer.value_slabs) continue;
      const __half* b = back + 16 * slab * kDim + 16 * to;
      const uint4 v = transpose16(word(b), word(b + 8), word(b + 8 * kDim), word(b + 8 * kDim + 8));
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
        mma(y[m][0], rows[slab][m], v.x, v.z);
        mma(y[m][1], rows[slab][m], v.y, v.w);
      }
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      float2 mean{};
      if (layer.value_mean)
        mean = *reinterpret_cast<const float2*>(layer.value_mean + kv_head * kDim + 16 * to + 8 * n + 2 * c);
#pragma unroll
      for (int m = 0; m < kTiles; ++m)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          state.o[m][2 * to + n][j] = (y[m][n][j] + (j % 2 ? mean.y : mean.x)) * total[m][j / 2];
    }
  }
}

}  // namespace blockgtq::cuda
