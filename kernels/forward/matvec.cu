// y_b[r] = sum_k W[r][k] x_b[k] for a few vectors x_b. W is read once and in order.
//
// Every multiprocessor has two blocks of 8 warps. A block takes neighbouring tiles of 8 rows, one after the
// other. Its warps take every 8th slab of a row each, and their sums are added in shared memory at the end of
// a tile. In 16 bits a tile is the B operand (16, 8) of mma.m16n8k16, and the vectors are the rows of A. Lane
// (g, c) takes 16 contiguous bytes of row g. The order of k in a sum is free, so these eight numbers serve as
// depths 2 c, 2 c + 1, 2 c + 8 and 2 c + 9 of two products, in W and in x alike.
//
//   slab      256 contiguous bytes of each of a tile's rows: four pieces of 64, of which lane (g, c) has 16
//   queue     (8 warps, kStages, 8 rows, 16) units of 16 bytes; in odd rows the halves of 128 bytes change
//             places, so that a piece is read without bank conflicts
//   vectors   (n, cols) of W's type: x normed and rounded, where it is not of that type already
//   sums      (2, 8 warps, n, 8 rows) for two tiles, since those of the previous tile may still be read
//
// Where rows are gates and up rows, tiles of either kind take turns, and threads keep a gate for
// the next tile.
//
// 64 KB of W per block are in flight at any time, across tiles. A kernel's first loads begin before the
// preceding kernel has ended, where there is room. More than two blocks per multiprocessor, or less of W in
// flight, is slower (of Qwen2.5-3B's step at 4 K, 2.21 ms: three blocks 2.38 to 2.53, four 2.62; three slabs
// in place of four 2.24, six 2.22), because the blocks of the next kernel then start where there is space,
// not evenly. Prefetching the beginning of the next product's W into L2 gains nothing: between two kernels
// latency counts.
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

/// The first row of a tile. In a gated product tiles of gates and tiles of up rows take turns.
__device__ inline int64_t first_row(const MatVec& p, int64_t tile) {
  return p.gated ? tile / 2 * kTileRows + tile % 2 * (p.rows / 2) : tile * kTileRows;
}

/// Takes the results of a tile of a gated product: keeps those of gates in `gate`, one per thread, and
/// combines those of the following up rows with them.
template <class T>
__device__ void open_gates(const MatVec& p, int64_t tile, const float* sums, float& gate) {
  const int r = threadIdx.x % kTileRows, b = threadIdx.x / kTileRows;  // kThreads are enough for all results
  const int64_t width = p.rows / 2, row = tile / 2 * kTileRows + r;
  if (b >= p.n || row >= width) return;
  if (tile % 2 == 0) {
    gate = result_of(p, sums, b, r, row);
    return;
  }
  const ActivationFunction f{p.activation, 0, 0};
  store(static_cast<T*>(p.gated) + b * width + row, f(gate, result_of(p, sums, b, r, row + width)));
}

/// Writes or adds the thread's result. best: the best candidate over all tiles so far of this thread's row of
/// a tile and its vector, where candidates are wanted.
__device__ inline void write_results(const MatVec& p, int64_t tile, const float* sums, Candidate& best) {
  const int r = threadIdx.x % kTileRows, b = threadIdx.x / kTileRows;  // kThreads are enough for all results
  const int64_t row = tile * kTileRows + r;
  if (b >= p.n || row >= p.rows) return;
  const float y = result_of(p, sums, b, r, row);
  float* const to = p.y + b * p.rows + row;
  if (p.add)
    // It is the only addition, so that no order matters, and nobody waits for what was there.
    atomicAdd(to, y);
  else
    *to = y;
  if (p.best) best = better(best, isfinite(y) ? Candidate{y, int32_t(row)} : Candidate{0, int32_t(-1 - row)});
}

/// Writes the block's best candidate for each vector.
__device__ inline void write_best(const MatVec& p, Candidate best) {
  const int r = threadIdx.x % kTileRows, b = threadIdx.x / kTileRows;
  best = best_of_lanes<kTileRows>(best);
  if (r == 0 && b < p.n) p.best[int64_t(b) * gridDim.x + blockIdx.x] = best;
}

/// A warp's way through the tiles of its block, slab by slab. It points to the slab that is loaded next.
template <class T>
struct Way {
  static constexpr int kEach = 16 / sizeof(T), kSlabColumns = kRowBytes / sizeof(T);
  const MatVec& p;
  int64_t tile, last;   // the block's next tile and the end of its tiles
  int step = 0, steps;  // slabs of this warp in a tile

  __device__ Way(const MatVec& p, int64_t first, int64_t last)
      : p(p),
        tile(first),
        last(last),
        steps(int((p.cols + kWarps * kSlabColumns - 1) / (kWarps * kSlabColumns))) {}

  /// The first column of the warp's slab number `step`.
  __device__ int column(int step) const { return (step * kWarps + int(threadIdx.x / 32)) * kSlabColumns; }
  /// Starts to load the next slab; to: (8, 16) units of this warp. What lies outside the matrix becomes zero.
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

/// kStaged: x has to be staged in shared memory, because it has another type or is to be normed. n_tiles:
/// what the blocks share; in a gated product pairs of tiles.
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
      for (int i = 0; i < kPieces; ++i) {  // beyond the columns any numbers do: W is zero there
        const int column = ahead.column(step) + (4 * i + c) * kEach;
        v[i] = Own::read(p.n, begin, vectors + min(column, int(p.cols) - kEach));
      }
      uint4* const here = queue + stage * kTileUnits;
      wait_for_groups<kStages - 1>();
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
        own.add(p.n, begin, v[i], here[g * 16 + ((4 * i + c) ^ (g % 2) << 2)]);
      __syncwarp();  // all lanes have read what is loaded anew
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

/// The number of tiles of a matrix, and the number of blocks that share them.
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
  // Bytes of the sums, and of what the driver keeps.
  constexpr int kOther = (2 * kWarps * kMaxVectors * kTileRows * 4) + 1024;
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
