// to(b, t, h, d) = from(b, t, h, d), of other types and strides. A thread takes eight elements of a row at a
// time, in words of 16 bytes where both sides are aligned to them. Bytes moved: those of both arrays.
#include <algorithm>

#include "kernels/cache/copy_rows.h"
#include "kernels/device/check.cuh"
#include "kernels/device/float_type.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/ptx.cuh"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 256, kPack = 8;
constexpr int64_t kMaxBlocks = 4096;

struct Copies {
  CopyRows of[kMostCopies];
  bool words[kMostCopies];     // whole words of 16 bytes on both sides
  uint32_t ends[kMostCopies];  // packs of the copies up to this one
  int n;
  uint32_t tokens, packs;  // packs of a row
};

template <class T>
struct alignas(16) Words {
  T v[kPack];
};

template <class T>
__device__ inline void load(const T* at, bool words, float (&x)[kPack]) {
  Words<T> y;
  if (words)
    y = *reinterpret_cast<const Words<T>*>(at);
  else
    for (int i = 0; i < kPack; ++i) y.v[i] = at[i];
  for (int i = 0; i < kPack; ++i) x[i] = to_float(y.v[i]);
}

template <class T>
__device__ inline void put(T* at, bool words, const float (&x)[kPack]) {
  Words<T> y;
  for (int i = 0; i < kPack; ++i)
    if constexpr (std::is_same_v<T, __half>)
      y.v[i] = to_half(x[i]);
    else
      store(&y.v[i], x[i]);
  if (words)
    *reinterpret_cast<Words<T>*>(at) = y;
  else
    for (int i = 0; i < kPack; ++i) at[i] = y.v[i];
}

/// Calls f with a pointer of the array's type to element d of the row.
template <class F>
__device__ inline void with_row(const StridedRows& rows, int64_t sequence, int64_t token, int64_t head, int d,
                                F f) {
  const int64_t at = sequence * rows.sequence + token * rows.token + head * rows.head + d;
  if (rows.type == FloatType::f32)
    f(static_cast<float*>(rows.data) + at);
  else if (rows.type == FloatType::bf16)
    f(static_cast<__nv_bfloat16*>(rows.data) + at);
  else
    f(static_cast<__half*>(rows.data) + at);
}

__global__ void __launch_bounds__(kThreads) copy_kernel(const __grid_constant__ Copies a) {
  wait_for_predecessor();
  for (uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < a.ends[a.n - 1]; i += gridDim.x * kThreads) {
    int which = 0;
    while (i >= a.ends[which]) ++which;
    const CopyRows& copy = a.of[which];
    const uint32_t pack = i - (which > 0 ? a.ends[which - 1] : 0), row = pack / a.packs;
    const uint32_t token = row / uint32_t(copy.heads), sequence = token / a.tokens;
    const int head = int(row - token * uint32_t(copy.heads)), d = kPack * int(pack - row * a.packs);
    const int64_t t = token - sequence * a.tokens;
    float x[kPack];
    with_row(copy.from, sequence, t, head, d, [&](auto* from) { load(from, a.words[which], x); });
    with_row(copy.to, sequence, t, head, d, [&](auto* to) { put(to, a.words[which], x); });
  }
}

bool in_words(const StridedRows& rows) {
  return aligned(rows.data, 16) && (rows.sequence | rows.token | rows.head) % kPack == 0;
}

}  // namespace

void copy_rows(std::span<const CopyRows> copies, int batch, int64_t tokens, int dim, const Stream& stream) {
  check(!copies.empty() && copies.size() <= size_t(kMostCopies) && batch > 0 && tokens > 0 &&
            dim % kPack == 0 && dim > 0,
        "copy_rows: arguments");
  Copies a{};
  int64_t packs = 0;
  for (const CopyRows& copy : copies) {
    check(copy.from.data && copy.to.data && copy.heads > 0, "copy_rows: an array");
    packs += int64_t(batch) * tokens * copy.heads * (dim / kPack);
    check(packs < (int64_t(1) << 31), "copy_rows: elements");
    a.of[a.n] = copy;
    a.words[a.n] = in_words(copy.from) && in_words(copy.to);
    a.ends[a.n++] = uint32_t(packs);
  }
  a.tokens = uint32_t(tokens);
  a.packs = uint32_t(dim / kPack);
  const int64_t blocks = std::min(kMaxBlocks, (packs + kThreads - 1) / kThreads);
  launch_early(copy_kernel, dim3(unsigned(blocks)), kThreads, 0, stream, "copy rows", a);
}

}  // namespace blockgtq::cuda
