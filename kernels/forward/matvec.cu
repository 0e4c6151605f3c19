// y_b[r] = sum_k W[r][k] x_b[k] for a few vectors x_b, W read once and in order.
//
// Two blocks per multiprocessor, of 8 warps each, take neighbouring tiles of 8 rows, one after the other. A
// block's warps take every 8th slab of a row, and their sums meet in shared memory at a tile's end. In 16
// bits a tile is the B operand (16, 8) of mma.m16n8k16 and the vectors are the rows of A. Lane (g, c) takes
// 16 contiguous bytes of row g: the sum over k has no order, so that these eight numbers serve as depths 2 c,
// 2 c + 1, 2 c + 8 and 2 c + 9 of two products, of W and x alike.
//
//   slab      256 contiguous bytes of each of a tile's rows: four pieces of 64, 16 to a lane (g, c)
//   queue     (8 warps, kStages, 8 rows, 16) of 16 bytes; in odd rows the halves of 128 bytes change places,
//             so that a piece is read without conflicts
//   vectors   (n, cols) of W's type: x normed and rounded, where it is not of that type already
//   sums      (2, 8 warps, n, 8 rows), of two tiles: the last one's may still be read. Where rows open each
//             other every other tile is one of gates, which their threads keep for the next
//
// 64 KB of W are on their way to every block at any time, across tiles, and a kernel's first ones from before
// the kernel before has ended, where there is room. More blocks to a multiprocessor than two, or less W on
// its way, is slower (of Qwen2.5-3B's step at 4 K, 2.21 ms: three blocks 2.38 to 2.53, four 2.62; three slabs
// in place of four 2.24, six 2.22): blocks of the next kernel then come where there is space, not evenly.
// Asking the L2 cache for the next product's beginning gains nothing: between two kernels it is latency that
// counts.
//
// Bytes moved: W once, x once per block (from L2).
#include <algorithm>

#include "kernels/device/check.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/range.cuh"
#include "kernels/forward/activation.cuh"
#include "kernels/forward/candidate.cuh"
#include "kernels/forward/matvec.cuh"

namespace blockgtq::cuda {
namespace {

/// The first row of a tile: where rows open each other, gates and what they open take turns.
__device__ inline int64_t first_row(const MatVec& p, int64_t tile) {
  return p.gated ? tile / 2 * kTileRows + tile % 2 * (p.rows / 2) : tile * kTileRows;
}

/// sums: of tile after tile, gates and what they open in turn; gate: this thread's, from one to the other.
template <class T>
__device__ void open_gates(const MatVec& p, int64_t tile, const float* sums, float& gate) {
  const int r = threadIdx.x % kTileRows, b = threadIdx.x / kTileRows;  // kThreads are enough for all
  const int64_t width = p.rows / 2, row = tile / 2 * kTileRows + r;
  if (b >= p.n || row >= width) return;
  if (tile % 2 == 0) {
    gate = result_of(p, sums, b, r, row);
    return;
  }
  const ActivationFunction f{p.activation, 0, 0};
  store(static_cast<T*>(p.gated) + b * width + row, f(gate, result_of(p, sums, b, r, row + width)));
}

/// best: over all tiles so far of this thread's row of a tile and its vector, where candidates are wanted.
__device__ inline void write_results(const MatVec& p, int64_t tile, const float* sums, Candidate& best) {
  const int r = threadIdx.x % kTileRows, b = threadIdx.x / kTileRows;  // kThreads are enough for all
  const int64_t row = tile * kTileRows + r;
  if (b >= p.n || row >= p.rows) return;
  const float y = result_of(p, sums, b, r, row);
  float* const to = p.y + b * p.rows + row;
  if (p.add)
    atomicAdd(to, y);  // the only one: in no order, and nobody waits for what was there
  else
    *to = y;
  if (p.best) best = better(best, isfinite(y) ? Candidate{y, int32_t(row)} : Candidate{0, int32_t(-1 - row)});
}

/// The best of a block.
__device__ inline void write_best(const MatVec& p, Candidate best) {
  const int r = threadIdx.x % kTileRows, b = threadIdx.x / kTileRows;
  best = best_of_lanes<kTileRows>(best);
  if (r == 0 && b < p.n) p.best[int64_t(b) * gridDim.x + blockIdx.x] = best;
}

/// A warp's way through its block's tiles, slab by slab: what is asked for next.
template <class T>
struct Way {
  static constexpr int kEach = 16 / sizeof(T), kSlabColumns = kRowBytes / sizeof(T);
  const MatVec& p;
  int64_t tile, last;   // of the block
  int step = 0, steps;  // of a tile

  __device__ Way(const MatVec& p, int64_t first, int64_t last)
      : p(p),
        tile(first),
        last(last),
        steps(int((p.cols + kWarps * kSlabColumns - 1) / (kWarps * kSlabColumns))) {}

  /// The first column of the warp's slab.
  __device__ int column(int step) const { return (step * kWarps + int(threadIdx.x / 32)) * kSlabColumns; }
  /// Asks for the next slab; to: (8, 16) of this warp. What is not there is zero.
  __device__ void load(uint4* to) {
    if (tile < last) {
      const int lane = threadIdx.x % 32, odd = lane / 16, unit = lane % 16;
      const int at = column(step) + unit * kEach;
      const int64_t row = first_row(p, tile) + odd;
      const T* const from = static_cast<const T*>(p.w) + row * p.cols + at;
      const int rows = at < p.cols ? int(min(p.rows - row, int64_t(kTileRows))) : 0;
#pragma unroll
      for (int i = 0; i < kTileRows / 2; ++i)
        copy_or_zero(to + (2 * i + odd) * 16 + (unit ^ odd << 2), from + 2 * i * p.cols, 2 * i < rows);
      if (++step == steps) step = 0, ++tile;
    }
    close_group();
  }
};

/// kStaged: x is not what is multiplied, but something of another type, or something to norm. n_tiles: shared
/// by the blocks; pairs of them where rows open each other.
template <class T, class X, bool kStaged, int kVectors>
__global__ void __launch_bounds__(kThreads, 2) matvec_kernel(const MatVec p, const X* x, int64_t n_tiles) {
  using Own = Sums<T, kVectors>;
  constexpr int kEach = Way<T>::kEach;
  extern __shared__ __align__(16) uint4 queues[];
  float* const sums = reinterpret_cast<float*>(queues + kQueueBytes / 16);
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
  uint4* const queue = queues + warp * (kStages * kTileUnits);
  const Range range = items_of(0, int(n_tiles), blockIdx.x, gridDim.x);
  const int64_t each = p.gated ? 2 : 1, first = range.first * each, last = range.last * each;
  Way<T> ahead(p, first, last);
#pragma unroll
  for (int s = 0; s < kStages; ++s) ahead.load(queue + s * kTileUnits);
  let_successor_start();
  const T* vectors;
  if constexpr (kStaged) {
    const HeldWeights held(p);
    wait_for_predecessor();
    T* const staged = reinterpret_cast<T*>(sums + 2 * sums_of(p));
    stage_vectors(p, x, held, sums, staged);
    vectors = staged;
  } else {
    wait_for_predecessor();
    vectors = x;
  }

  const auto begin = [&](int b) { return b * p.cols; };
  Candidate best = no_candidate();
  float gate = 0;
  int stage = 0;
  for (int64_t tile = first; tile < last; ++tile) {
    Own own;
    for (int step = 0; step < ahead.steps; ++step) {
      typename Own::Vectors v[kPieces];
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {  // behind the columns any numbers: W is zero there
        const int column = ahead.column(step) + (4 * i + c) * kEach;
        v[i] = Own::read(p.n, begin, vectors + min(column, int(p.cols) - kEach));
      }
      uint4* const here = queue + stage * kTileUnits;
      wait_for_groups<kStages - 1>();
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
        own.add(p.n, begin, v[i], here[g * 16 + ((4 * i + c) ^ (g % 2) << 2)]);
      __syncwarp();  // all lanes have read what comes anew
      ahead.load(here);
      stage = (stage + 1) % kStages;
    }
    float* const mine = sums + (tile - first) % 2 * sums_of(p);
    own.leave(p.n, mine + warp * p.n * kTileRows);
    __syncthreads();
    if (p.gated)
      open_gates<T>(p, tile, mine, gate);
    else
      write_results(p, tile, mine, best);
  }
  if (p.best) write_best(p, best);
}

/// Tiles that blocks share, and blocks.
int64_t tiles_of(int64_t rows) {
  return (rows + kTileRows - 1) / kTileRows;
}
int64_t blocks_of(int64_t tiles) {
  return std::min<int64_t>(tiles, 2 * attribute(cudaDevAttrMultiProcessorCount));
}

template <class T, class X, bool kStaged, int kVectors>
void launch(const MatVec& p, const X* x, const Stream& stream) {
  const auto kernel = matvec_kernel<T, X, kStaged, kVectors>;
  const int64_t vectors = kStaged ? p.n * p.cols * int64_t(sizeof(T)) : 0;
  check(vectors <= max_vector_bytes(), "matvec: vectors longer than shared memory");
  const int64_t bytes = kQueueBytes + 2 * sums_of(p) * int64_t(sizeof(float)) + vectors;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
             "shared memory");
  const int64_t tiles = tiles_of(p.gated ? p.rows / 2 : p.rows);
  launch_early(kernel, dim3(unsigned(blocks_of(tiles))), kThreads, int(bytes), stream, "matrix times vectors",
               p, x, tiles);
}

template <class T, class X, bool kStaged>
void launch(const MatVec& p, const X* x, const Stream& stream) {
  p.n <= 8 ? launch<T, X, kStaged, 8>(p, x, stream) : launch<T, X, kStaged, 16>(p, x, stream);
}
template <class T, class X>
void launch(const MatVec& p, const X* x, const Stream& stream) {
  if constexpr (std::is_same_v<T, X>) {
    if (!p.norm_weight) return launch<T, X, false>(p, x, stream);
  }
  if constexpr (!std::is_same_v<T, X> || std::is_same_v<T, float>) launch<T, X, true>(p, x, stream);
}

}  // namespace

int64_t n_candidates(int64_t rows) {
  return blocks_of(tiles_of(rows));
}

int64_t max_vector_bytes() {
  constexpr int kOther =
      (2 * kWarps * kMaxVectors * kTileRows * 4) + 1024;  // sums, and what the driver keeps
  return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - kOther - kQueueBytes;
}

void matvec(const MatVec& p, const Stream& stream) {
  check(p.w && p.rows > 0 && p.rows <= INT32_MAX && p.cols > 0 && p.cols < 1 << 24 && p.cols % 8 == 0 &&
            p.n > 0 && p.n <= kMaxVectors && aligned(p.w, 16),
        "matvec: the product");
  check((p.x != nullptr) + (p.x_half != nullptr) + (p.x_low != nullptr) == 1 && (p.x || !p.norm_weight),
        "matvec: one kind of vectors, and norms of float32");
  check((p.y != nullptr) != (p.gated != nullptr) && (p.y || (!p.add && !p.best && p.rows % 2 == 0)),
        "matvec: one kind of results");
  check(p.activation != Activation::clamped, "matvec: activation");
  for (const void* vector :
       {static_cast<const void*>(p.x), p.x_half, p.x_low, static_cast<const void*>(p.norm_weight)})
    check(!vector || aligned(vector, 16), "matvec: alignment");
  with_type(p.type, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (p.x)
      launch<T, float>(p, p.x, stream);
    else if (p.x_half)
      launch<T, __half>(p, static_cast<const __half*>(p.x_half), stream);
    else
      launch<T, T>(p, static_cast<const T*>(p.x_low), stream);
  });
}

}  // namespace blockgtq::cuda
