// TQ-MSE of every group of a head for a tile of 32 keys in shared memory. These are the steps of the kernels
// that have to reproduce the CPU's numbers to the last bit (tq_mse.cu, diagnose.cu).
//
// Every output of a rotation is one chain of fused float32 multiply-adds in ascending depth, and a norm is
// four interleaved float64 chains, exactly as in lib/quant. A product that the CPU rounds before an
// addition is rounded here too: __fmul_rn and __dmul_rn are never fused. So codes, norms and decoded keys
// equal the CPU's.
//
// Why there are no tensor cores here: TF32 keeps 11 bits of x and of R, which is an error of 3e-4 of a
// coordinate's standard deviation sigma; bf16 keeps 8 bits, 2.3e-3. A code flips when a boundary lies
// within the error. For a normal coordinate the probability is 0.8 error sum_b phi(b), and the sum over
// the codebook's boundaries is 1.7 at 3 bits and 51 at 8. So TF32 flips 0.04 % of the codes at 3 bits and
// 1.2 % at 8, and bf16 0.3 % and 9 %. A flip lies where two centroids are equally near, so that the
// distortion moves by 3e-6 of itself (TF32), but the bytes differ. cache/packed_encode.cu is the fast
// encoder for serving.
//
// Shared memory of a block, with S = row_stride(D) floats per row (S = 20 mod 32 at D = 128, so that rows
// four apart lie in different banks):
//
//   [CodeTable]
//   [x (32, S): keys, in the head's order]
//   [u (32, S): unit vectors, by slot]
//   [y (32, S): rotated vectors and their centroids, by slot]
//   [book][norm (32, 8)][what else a kernel wants]
#pragma once
#include "kernels/codes/code_tables.cuh"
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"

namespace blockgtq::cuda {

inline constexpr int kTileTokens = 32, kTileThreads = 256;
// 2 * (2 + 4 + ... + 256) = 1020: there is at most one group of each bit width.
inline constexpr int kBookFloats = 1024;

__host__ __device__ constexpr int row_stride(int dim) {
  return (dim + 2 * kMaxCodeGroups + 3) / 4 * 4 + 4;
}

/// A block's view of its shared memory.
struct CodeTile {
  const CodeTable* table;
  const float* numbers;
  int stride;  // S
  float *x, *u, *y;
  float* book;     // per group the centroids, then the boundaries: 2^(bits + 1) floats
  uint16_t* norm;  // (32, 8) fp16
};

__host__ __device__ constexpr size_t tile_bytes(int dim) {
  return sizeof(CodeTable) + sizeof(float) * (3 * kTileTokens * size_t(row_stride(dim)) + kBookFloats) +
         sizeof(uint16_t) * kTileTokens * kMaxCodeGroups;
}

/// Lets a kernel use `bytes` of shared memory per block. Exit::device where the device has less.
template <class Kernel>
void allow_shared(Kernel* kernel, size_t bytes) {
  const int most = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  if (bytes > size_t(most))
    throw Error(
        Exit::device,
        fmt::format("this head dimension needs {} bytes of shared memory per block: the device has {}", bytes,
                    most),
        "--device cpu");
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
             "shared memory");
}

/// Copies the table and the codebooks to shared memory. The caller synchronizes.
__device__ inline CodeTile make_tile(unsigned char* shared, const CodeTable* table, const float* numbers) {
  CodeTile s;
  s.table = reinterpret_cast<const CodeTable*>(shared);
  s.numbers = numbers;
  s.stride = row_stride(table->dim);
  s.x = reinterpret_cast<float*>(shared + sizeof(CodeTable));
  s.u = s.x + kTileTokens * s.stride;
  s.y = s.u + kTileTokens * s.stride;
  s.book = s.y + kTileTokens * s.stride;
  s.norm = reinterpret_cast<uint16_t*>(s.book + kBookFloats);
  const int2* from = reinterpret_cast<const int2*>(table);
  for (int i = threadIdx.x; i < int(sizeof(CodeTable) / sizeof(int2)); i += kTileThreads)
    reinterpret_cast<int2*>(shared)[i] = from[i];
  for (int g = 0, place = 0; g < table->n_groups; ++g) {
    const int n = 1 << table->groups[g].bits;
    for (int i = threadIdx.x; i < n; i += kTileThreads) {
      s.book[place + i] = numbers[table->groups[g].centroids + i];
      if (i + 1 < n) s.book[place + n + i] = numbers[table->groups[g].boundaries + i];
    }
    place += 2 * n;
  }
  return s;
}

/// The group's centroids in the book. Its boundaries follow after 2^bits floats.
__device__ inline const float* book_of(const CodeTile& s, int group) {
  int place = 0;
  for (int g = 0; g < group; ++g) place += 2 << s.table->groups[g].bits;
  return s.book + place;
}

/// x = the keys of tokens [0, n_valid), with zeros behind them. keys + t * token_stride: one head, D values.
template <class T>
__device__ void load_keys(const CodeTile& s, const T* keys, int64_t token_stride, int n_valid) {
  const int dim = s.table->dim;
  for (int i = threadIdx.x; i < kTileTokens * dim; i += kTileThreads) {
    const int t = i / dim, j = i - t * dim;
    s.x[t * s.stride + j] = t < n_valid ? to_float(keys[t * token_stride + j]) : 0.0f;
  }
}

/// The norm |v| of one group of one token, by four neighbouring lanes: lane `part` adds the squares of
/// v[part + 4 i]. All four get (p0 + p1) + (p2 + p3), as the CPU adds them. Whole warps have to call it.
template <class Value>
__device__ double group_norm(int d, int part, const Value& value) {
  double sum = 0;
  for (int j = part; j < d; j += 4) {
    const double v = value(j);
    sum = fma(v, v, sum);  // a product of floats is exact in float64
  }
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  sum += __shfl_xor_sync(0xffffffffu, sum, 2);
  return sqrt(sum);
}

/// Calls body(token, group index, group, part) for every token, group and part 0 .. 3. 32 tokens make 128
/// items per group, so that a warp runs a step as a whole or not at all.
template <class Body>
__device__ void for_each_quarter(const CodeTile& s, const Body& body) {
  for (int item = threadIdx.x; item < kTileTokens * 4 * s.table->n_groups; item += kTileThreads) {
    const int group = item / (4 * kTileTokens);
    body(item / 4 % kTileTokens, group, s.table->groups[group], item % 4);
  }
}

/// u = x / |x| per group, by slot. norm = |x| in fp16, cut to 65504.
__device__ inline void normalize(const CodeTile& s) {
  for_each_quarter(s, [&](int t, int group, const GroupTable& g, int part) {
    const float* x = s.x + t * s.stride;
    const int16_t* coord = s.table->coord + g.first;
    const double r = group_norm(g.d, part, [&](int j) { return x[coord[j]]; });
    const double inverse = r > 0 ? 1 / r : 0;
    float* u = s.u + t * s.stride + g.first;
    for (int j = part; j < g.stride; j += 4)
      u[j] = j < g.d ? __double2float_rn(__dmul_rn(double(x[coord[j]]), inverse)) : 0.0f;
    if (part == 0)
      s.norm[t * kMaxCodeGroups + group] =
          __half_as_ushort(__float2half_rn(fminf(__double2float_rn(r), 65504.0f)));
  });
}

/// Multiplies `in` (32, slots) by every group's matrix, four tokens by four slots per thread, and calls
/// emit(token, group index, slot, value). kTranspose: y = R u, otherwise u = R^T y.
template <bool kTranspose, class Emit>
__device__ void rotate(const CodeTile& s, const float* in, const Emit& emit) {
  const int n_quads = s.table->n_slots / 4;
  for (int item = threadIdx.x; item < n_quads * (kTileTokens / 4); item += kTileThreads) {
    const int quad = item % n_quads, t0 = item / n_quads * 4, group = s.table->quad_group[quad];
    const GroupTable& g = s.table->groups[group];
    const int stride = g.stride;
    const float* m = s.numbers + (kTranspose ? g.transpose : g.rotation) + (4 * quad - g.first);
    const float* a = in + t0 * s.stride + g.first;
    float sum[4][4] = {};
    for (int k = 0; k < stride; k += 4) {
      float4 b[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) b[i] = __ldg(reinterpret_cast<const float4*>(m + (k + i) * stride));
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const float4 v = *reinterpret_cast<const float4*>(a + r * s.stride + k);
        const float x[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[r][0] = fmaf(x[i], b[i].x, sum[r][0]);
          sum[r][1] = fmaf(x[i], b[i].y, sum[r][1]);
          sum[r][2] = fmaf(x[i], b[i].z, sum[r][2]);
          sum[r][3] = fmaf(x[i], b[i].w, sum[r][3]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int c = 0; c < 4; ++c) emit(t0 + r, group, 4 * quad + c, sum[r][c]);
  }
}

/// The code of y: the number of boundaries below it.
__device__ inline int nearest(const float* boundaries, int bits, float y) {
  int code = 0;
  for (int step = 1 << (bits - 1); step > 0; step >>= 1) code += y > boundaries[code + step - 1] ? step : 0;
  return code;
}

/// y *= norm / |y| per group, which gives the centroids the key's length. Padded slots hold zeros.
__device__ inline void correct_norms(const CodeTile& s) {
  for_each_quarter(s, [&](int t, int group, const GroupTable& g, int part) {
    float* y = s.y + t * s.stride + g.first;
    const double length = group_norm(g.d, part, [&](int j) { return y[j]; });
    const float r = __half2float(__ushort_as_half(s.norm[t * kMaxCodeGroups + group]));
    const float factor = __double2float_rn(double(r) / length);
    for (int j = part; j < g.d; j += 4) y[j] = __fmul_rn(y[j], factor);
  });
}

/// The sum over the block in a fixed order, for thread 0. parts (8) lies in shared memory. All
/// threads call it.
__device__ inline double block_sum(double x, double* parts) {
  for (int apart = 16; apart > 0; apart /= 2) x += __shfl_xor_sync(0xffffffffu, x, apart);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < kTileThreads / 32; ++w) sum += parts[w];
  return sum;
}

}  // namespace blockgtq::cuda
