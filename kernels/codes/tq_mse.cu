// TQ-MSE, for every group of every head:
//
//   encode   r = |x|,  y = R (x / r),  code_j = the centroid nearest to y_j
//   decode   yh = c[code] / |c[code]|,  xh = r R^T yh
//
//   keys     (T, H, D)
//   codes    head by head (T, bytes): [fp16 norm per group][bit streams, least significant bit first]
//
// CodeBatch has the offsets of codes. A block takes 32 tokens of one head (tq_mse.cuh). Arithmetic is the
// bound: D multiply-adds in float32 per coordinate and direction. Bytes moved: keys and codes once.
#include <algorithm>

#include "kernels/codes/tile_sums.cuh"
#include "kernels/codes/tq_mse.cuh"
#include "kernels/codes/tq_mse.h"

namespace blockgtq::cuda {
namespace {

/// Byte b of token t's code, from the tile's codes (by slot) and norms.
__device__ uint8_t code_byte(const CodeTile& s, const uint8_t* codes, int t, int b) {
  const CodeTable& table = *s.table;
  if (b < 2 * table.n_groups) return uint8_t(s.norm[t * kMaxCodeGroups + b / 2] >> (b % 2 * 8));
  unsigned value = 0;
  int at = 8 * b, group = 0;
  while (at < 8 * b + 8) {
    while (group < table.n_groups &&
           at >= table.groups[group].bit_offset + table.groups[group].d * table.groups[group].bits)
      ++group;
    if (group == table.n_groups) break;  // padding
    const GroupTable& g = table.groups[group];
    const int j = (at - g.bit_offset) / g.bits, done = at - g.bit_offset - j * g.bits;
    value |= unsigned(codes[t * kMaxSlots + g.first + j] >> done) << (at - 8 * b);
    at += g.bits - done;
  }
  return uint8_t(value);
}

struct Places {
  const CodeTable* tables;  // from that of head 0 on
  const float* numbers;
  int64_t n_tokens;
  int n_heads, dim;
};

/// The offset of head h's code of this block's first token.
__device__ int64_t code_place(const Places& p, int head, int64_t t0) {
  return p.n_tokens * (p.tables[head].bytes_before - p.tables[0].bytes_before) + t0 * p.tables[head].bytes;
}

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    encode_exact_kernel(Places p, const T* keys, uint8_t* codes, double* partial) {
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ double parts[kTileThreads / 32];
  const int head = blockIdx.y;
  const int64_t t0 = int64_t(blockIdx.x) * kTileTokens;
  const int n_valid = int(min(int64_t(kTileTokens), p.n_tokens - t0));
  const CodeTile s = make_tile(shared, p.tables + head, p.numbers);
  uint8_t* indices = shared + tile_bytes(p.dim);  // (32, kMaxSlots)
  __syncthreads();
  load_keys(s, keys + (t0 * p.n_heads + head) * p.dim, int64_t(p.n_heads) * p.dim, n_valid);
  __syncthreads();
  normalize(s);
  __syncthreads();
  rotate<true>(s, s.u, [&](int t, int group, int slot, float y) {
    const GroupTable& g = s.table->groups[group];
    if (slot - g.first >= g.d) {
      s.y[t * s.stride + slot] = 0;
      return;
    }
    const float* book = book_of(s, group);
    const int code = nearest(book + (1 << g.bits), g.bits, y);
    indices[t * kMaxSlots + slot] = uint8_t(code);
    s.y[t * s.stride + slot] = book[code];
  });
  __syncthreads();
  const int bytes = s.table->bytes;
  uint8_t* to = codes + code_place(p, head, t0);
  for (int i = threadIdx.x; i < n_valid * bytes; i += kTileThreads)
    to[i] = code_byte(s, indices, i / bytes, i % bytes);
  if (!partial) return;

  correct_norms(s);
  __syncthreads();
  double error = 0, energy = 0;
  rotate<false>(s, s.y, [&](int t, int, int slot, float restored) {
    const int coord = s.table->coord[slot];
    if (coord < 0 || t >= n_valid) return;
    const double k = s.x[t * s.stride + coord], e = k - restored;
    error = fma(e, e, error);
    energy = fma(k, k, energy);
  });
  error = block_sum(error, parts);
  __syncthreads();
  energy = block_sum(energy, parts);
  if (threadIdx.x != 0) return;
  partial[(2 * head) * int64_t(gridDim.x) + blockIdx.x] = error;
  partial[(2 * head + 1) * int64_t(gridDim.x) + blockIdx.x] = energy;
}

__global__ void __launch_bounds__(kTileThreads)
    decode_exact_kernel(Places p, const uint8_t* codes, float* keys) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int head = blockIdx.y;
  const int64_t t0 = int64_t(blockIdx.x) * kTileTokens;
  const int n_valid = int(min(int64_t(kTileTokens), p.n_tokens - t0));
  const CodeTile s = make_tile(shared, p.tables + head, p.numbers);
  __syncthreads();
  const CodeTable& table = *s.table;
  const uint8_t* from = codes + code_place(p, head, t0);
  for (int i = threadIdx.x; i < kTileTokens * table.n_slots; i += kTileThreads) {
    const int t = i / table.n_slots, slot = i - t * table.n_slots, group = table.quad_group[slot / 4];
    const GroupTable& g = table.groups[group];
    const int j = slot - g.first;
    float value = 0;
    if (t < n_valid && j < g.d) {
      const int at = g.bit_offset + j * g.bits;
      const uint8_t* byte = from + int64_t(t) * table.bytes + at / 8;
      unsigned word = byte[0];
      if (at % 8 + g.bits > 8) word |= unsigned(byte[1]) << 8;
      value = book_of(s, group)[word >> (at % 8) & ((1u << g.bits) - 1)];
    }
    s.y[t * s.stride + slot] = value;
  }
  for (int i = threadIdx.x; i < kTileTokens * table.n_groups; i += kTileThreads) {
    const int t = i / table.n_groups, group = i - t * table.n_groups;
    const uint8_t* norm = from + int64_t(t) * table.bytes + table.groups[group].norm_byte;
    s.norm[t * kMaxCodeGroups + group] = t < n_valid ? uint16_t(norm[0] | norm[1] << 8) : uint16_t(0);
  }
  __syncthreads();
  correct_norms(s);
  __syncthreads();
  rotate<false>(s, s.y, [&](int t, int, int slot, float restored) {
    const int coord = s.table->coord[slot];
    if (coord >= 0) s.x[t * s.stride + coord] = restored;
  });
  __syncthreads();
  for (int i = threadIdx.x; i < n_valid * p.dim; i += kTileThreads) {
    const int t = i / p.dim, j = i - t * p.dim;
    keys[((t0 + t) * p.n_heads + head) * p.dim + j] = s.x[t * s.stride + j];
  }
}

int64_t n_tiles(int64_t n_tokens) {
  return (n_tokens + kTileTokens - 1) / kTileTokens;
}

Places places(const CodeBatch& batch) {
  check(batch.tables && batch.first >= 0 && batch.n_heads >= 1 &&
            batch.first + batch.n_heads <= batch.tables->size(),
        "CodeBatch: quantizers outside the tables");
  check(batch.n_heads <= 65535 && batch.n_tokens >= 0 && n_tiles(batch.n_tokens) <= INT32_MAX,
        "CodeBatch: size");
  return {batch.tables->tables() + batch.first, batch.tables->numbers(), batch.n_tokens, batch.n_heads,
          batch.tables->dim()};
}

}  // namespace

int64_t exact_scratch(const CodeBatch& batch) {
  return 2 * batch.n_heads * n_tiles(batch.n_tokens);
}

void encode_exact(const CodeBatch& batch, const void* keys, FloatType type, uint8_t* codes, double* sums,
                  double* scratch, const Stream& stream) {
  const Places p = places(batch);
  check(batch.n_tokens == 0 || (keys && codes), "encode_exact: arrays");
  check(!sums || scratch, "encode_exact: sums without scratch");
  const dim3 grid(unsigned(n_tiles(p.n_tokens)), unsigned(p.n_heads));
  const size_t shared = tile_bytes(p.dim) + kTileTokens * kMaxSlots;
  if (p.n_tokens > 0)
    with_type(type, [&](auto* of_type) {
      using T = std::remove_pointer_t<decltype(of_type)>;
      allow_shared(encode_exact_kernel<T>, shared);
      encode_exact_kernel<T><<<grid, kTileThreads, shared, raw(stream)>>>(p, static_cast<const T*>(keys),
                                                                          codes, sums ? scratch : nullptr);
      check_launch("encode_exact");
    });
  if (sums) sum_tiles(scratch, 2 * p.n_heads, n_tiles(p.n_tokens), sums, stream);
}

void decode_exact(const CodeBatch& batch, const uint8_t* codes, float* keys, const Stream& stream) {
  const Places p = places(batch);
  if (p.n_tokens == 0) return;
  check(codes && keys, "decode_exact: arrays");
  const dim3 grid(unsigned(n_tiles(p.n_tokens)), unsigned(p.n_heads));
  allow_shared(decode_exact_kernel, tile_bytes(p.dim));
  decode_exact_kernel<<<grid, kTileThreads, tile_bytes(p.dim), raw(stream)>>>(p, codes, keys);
  check_launch("decode_exact");
}

}  // namespace blockgtq::cuda
