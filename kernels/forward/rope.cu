// (a, b) -> (a cos - b sin, b cos + a sin) for the coordinates (a, b) of every rotary block i, with the angle
// of position t % chunk. The coordinates are i and i + R/2 (half layout) or 2i and 2i + 1 (interleaved).
//
// x is rotated in place and has strides of its own for tokens and heads. Tables are (length, R/2), dense.
// Bytes moved: 8 n heads R, and the tables once.
#include "kernels/device/check.cuh"
#include "kernels/forward/rope.h"

namespace blockgtq::cuda {
namespace {

constexpr int kThreads = 128;

struct Coordinates {
  int blocks;       // R / 2
  int step, apart;  // block i is coordinates i * step and i * step + apart
};

/// One block per token, a thread per (head, rotary block).
__global__ void rope_kernel(const float* cos, const float* sin, Coordinates c, Heads x, int heads,
                            int64_t chunk) {
  const int64_t t = blockIdx.x, row = t % chunk * c.blocks;
  for (int i = threadIdx.x; i < heads * c.blocks; i += kThreads) {
    const int h = i / c.blocks, block = i % c.blocks;
    float* first = x.data + t * x.stride + h * x.head_stride + block * c.step;
    float* second = first + c.apart;
    const float a = *first, b = *second, cosine = cos[row + block], sine = sin[row + block];
    *first = a * cosine - b * sine;
    *second = b * cosine + a * sine;
  }
}

}  // namespace

void rope(const RopeTable& table, const Heads& x, int64_t n, int64_t heads, int64_t chunk,
          const Stream& stream) {
  const int blocks = table.layout.n_rotary();
  check(n >= 0 && n <= INT32_MAX && heads > 0 && blocks > 0 && heads * blocks <= INT32_MAX, "rope: shape");
  check(chunk > 0 && (n < chunk ? n : chunk) <= table.length, "rope: a chunk longer than the table");
  check(x.data && table.cos && table.sin, "rope: arrays");
  check(heads == 1 || x.head_stride >= table.layout.rotary_dim, "rope: heads overlap");
  if (n == 0) return;
  const bool half = table.layout.pairing == Pairing::half;
  const Coordinates c{blocks, half ? 1 : 2, half ? blocks : 1};
  rope_kernel<<<unsigned(n), kThreads, 0, raw(stream)>>>(table.cos, table.sin, c, x, int(heads), chunk);
  check_launch("rope");
}

}  // namespace blockgtq::cuda
