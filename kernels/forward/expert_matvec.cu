// Products of a few tokens with their experts. e_i are a token's experts, p_i their weights:
//
//   gated   h_i = act(gate_{e_i} x, up_{e_i} x),  gate is the first half of an expert's rows
//   added   x += scale sum_i p_i (down_{e_i} h_i + bias_{e_i})
//
// Tiles of 8 rows, the queue of W and the sums are those of matvec.cu. Blocks share the tiles evenly, and a
// block takes its tiles in this order:
//
//   gated   (expert, tile, half): by number the experts that some token goes to; a tile of gates, then the
//           tile of up rows that they multiply
//   added   (tile, expert): the experts of a tile follow each other, so that one thread adds up a result
//
// Every block finds out for itself which token goes to which expert (Visits): there are at most 256 pairs,
// one per thread. The vectors of a tile are the tokens that go to its expert.
//
// Bytes moved: the matrices of the chosen experts once, vectors once per block (from L2).
#include <algorithm>

#include "kernels/device/check.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/range.cuh"
#include "kernels/forward/activation.cuh"
#include "kernels/forward/expert_matvec.h"
#include "kernels/forward/matvec.cuh"

namespace blockgtq::cuda {
namespace {

/// Which token goes to which expert. A visit is a (token, place among the token's experts). Visits are sorted
/// by expert, then by token.
struct Visits {
  int chosen[kMaxVisits];  // the expert of every (token, place)
  // of every (token, place): 0 repeats an earlier place, 2 is the expert's first visit, 1 any other
  unsigned char count[kMaxVisits];
  int expert[kMaxVisits];           // the experts that some token goes to, rising
  short first[kMaxVisits + 1];      // an expert's first visit
  short visit[kMaxVisits];          // token * n_per_token + place
  unsigned char token[kMaxVisits];  // of a visit
  float weight[kMaxVisits];         // of a visit, where there are weights
};
static_assert(kMaxVisits <= kThreads);

/// Fills v. All threads call it. Returns the number of experts.
__device__ int find_visits(const ExpertMatVec& a, Visits& v) {
  const int n = a.product.n * a.n_per_token, i = threadIdx.x, token = i / a.n_per_token;
  const bool mine = i < n;
  const int e = mine ? a.expert[i] : 0;
  if (mine) v.chosen[i] = e;
  __syncthreads();
  bool first = mine, counts = mine;
  for (int q = 0; q < i && mine; ++q) {
    if (v.chosen[q] != e) continue;
    first = false;
    if (q / a.n_per_token == token) counts = false;  // a token has an expert twice only where logits are NaN
  }
  if (mine) v.count[i] = counts ? first ? 2 : 1 : 0;
  const int n_experts = __syncthreads_count(first), n_visits = __syncthreads_count(counts);
  if (counts) {
    int at = 0, rank = 0;
    for (int q = 0; q < n; ++q) {
      const int other = v.chosen[q], count = v.count[q];
      at += count > 0 && (other < e || (other == e && q < i));
      rank += count == 2 && other < e;
    }
    v.visit[at] = short(i);
    v.token[at] = static_cast<unsigned char>(token);
    if (a.weight) v.weight[at] = a.weight[i];
    if (first) v.expert[rank] = e, v.first[rank] = short(at);
  }
  if (i == 0) v.first[n_experts] = short(n_visits);
  __syncthreads();
  return n_experts;
}

/// A tile of an expert. `expert` is the expert's index in Visits.
struct Place {
  int expert, tile;
  bool up;  // a tile of up rows, not of gates
};

/// A warp's way through the tiles of its block, slab by slab. It points to the slab that is loaded next.
template <class T, bool kGated>
struct ExpertWay {
  static constexpr int kEach = 16 / sizeof(T), kSlabColumns = kRowBytes / sizeof(T);
  const MatVec& p;
  const Visits& v;
  int n_experts, tiles;  // tiles of an expert, or of its gates
  int at, last;          // the block's next tile and the end of its tiles
  int step = 0, steps;   // slabs of this warp in a tile

  __device__ ExpertWay(const MatVec& p, const Visits& v, int n_experts, int tiles, Range range)
      : p(p),
        v(v),
        n_experts(n_experts),
        tiles(tiles),
        at(range.first),
        last(range.last),
        steps(int((p.cols + kWarps * kSlabColumns - 1) / (kWarps * kSlabColumns))) {}

  __device__ Place place(int at) const {
    if (kGated) return {at / 2 / tiles, at / 2 % tiles, at % 2 != 0};
    return {at % n_experts, at / n_experts, false};
  }
  /// The first row of a tile in the matrix of all experts, and the number of rows that the tile has.
  __device__ int64_t first_row(const Place& x) const {
    return v.expert[x.expert] * p.rows + x.tile * kTileRows + (x.up ? p.rows / 2 : 0);
  }
  __device__ int rows(const Place& x) const {
    return int(min((kGated ? p.rows / 2 : p.rows) - x.tile * kTileRows, int64_t(kTileRows)));
  }

  /// The first column of the warp's slab number `step`.
  __device__ int column(int step) const { return (step * kWarps + int(threadIdx.x / 32)) * kSlabColumns; }
  /// Starts to load the next slab; to: (8, 16) units of this warp. What lies outside the matrix becomes zero.
  __device__ void load(uint4* to) {
    if (at < last) {
      const Place x = place(at);
      const int lane = threadIdx.x % 32, odd = lane / 16, unit = lane % 16;
      const int first = column(step) + unit * kEach;
      const T* const from = static_cast<const T*>(p.w) + (first_row(x) + odd) * p.cols + first;
      const int n = first < p.cols ? rows(x) - odd : 0;
#pragma unroll
      for (int i = 0; i < kTileRows / 2; ++i)
        copy_or_zero(to + (2 * i + odd) * 16 + (unit ^ odd << 2), from + 2 * i * p.cols, 2 * i < n);
      if (++step == steps) step = 0, ++at;
    }
    close_group();
  }
};

/// tiles: of an expert, or of its gates.
template <class T, bool kGated, int kVectors>
__global__ void __launch_bounds__(kThreads, 2) expert_kernel(const ExpertMatVec a, int tiles) {
  using Own = Sums<T, kVectors>;
  using Way = ExpertWay<T, kGated>;
  constexpr int kEach = Way::kEach;
  extern __shared__ __align__(16) uint4 queues[];
  __shared__ Visits v;
  const MatVec& p = a.product;
  float* const sums = reinterpret_cast<float*>(queues + kQueueBytes / 16);
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
  // Row and vector of the thread's result. kThreads are enough for all results.
  const int r = threadIdx.x % kTileRows, b = threadIdx.x / kTileRows;
  uint4* const queue = queues + warp * (kStages * kTileUnits);
  let_successor_start();
  wait_for_predecessor();
  const int n_experts = find_visits(a, v), each = kGated ? 2 : n_experts;
  Range range = items_of(0, kGated ? n_experts * tiles : tiles, blockIdx.x, gridDim.x);
  range = {range.first * each, range.last * each};
  Way ahead(p, v, n_experts, tiles, range);
#pragma unroll
  for (int s = 0; s < kStages; ++s) ahead.load(queue + s * kTileUnits);
  const T* vectors = static_cast<const T*>(p.x_low);
  if constexpr (kGated) {
    T* const staged = reinterpret_cast<T*>(sums + 2 * sums_of(p));
    stage_vectors(p, p.x, HeldWeights(p), sums, staged);
    vectors = staged;
  }

  const ActivationFunction activation{p.activation, a.limit, a.alpha};
  float kept = 0;  // a gate, or the sum so far
  int stage = 0;
  for (int at = range.first; at < range.last; ++at) {
    const Place place = ahead.place(at);
    const int first_visit = v.first[place.expert], n = v.first[place.expert + 1] - first_visit;
    const auto begin = [&](int i) {
      return (kGated ? int64_t(v.token[first_visit + i]) : int64_t(v.visit[first_visit + i])) * p.cols;
    };
    Own own;
    for (int step = 0; step < ahead.steps; ++step) {
      typename Own::Vectors x[kPieces];
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {  // beyond the columns any numbers do: W is zero there
        const int column = ahead.column(step) + (4 * i + c) * kEach;
        x[i] = Own::read(n, begin, vectors + min(column, int(p.cols) - kEach));
      }
      uint4* const here = queue + stage * kTileUnits;
      wait_for_groups<kStages - 1>();
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kPieces; ++i) own.add(n, begin, x[i], here[g * 16 + ((4 * i + c) ^ (g % 2) << 2)]);
      __syncwarp();  // all lanes have read what is loaded anew
      ahead.load(here);
      stage = (stage + 1) % kStages;
    }
    float* const mine = sums + (at - range.first) % 2 * sums_of(p);
    own.leave(n, mine + warp * p.n * kTileRows);
    __syncthreads();
    const bool there = r < ahead.rows(place);
    const int64_t row = ahead.first_row(place) + r;
    if constexpr (kGated) {  // b is a visit
      if (!there || b >= n) continue;
      const float y = result_of(p, mine, b, r, row);
      if (place.up)
        store(static_cast<T*>(p.gated) + v.visit[first_visit + b] * (p.rows / 2) + place.tile * kTileRows + r,
              activation(kept, y));
      else
        kept = y;
    } else {  // b is a token
      if (!there || b >= p.n) continue;
      for (int i = 0; i < n; ++i)
        if (v.token[first_visit + i] == b)
          kept = fmaf(v.weight[first_visit + i], result_of(p, mine, i, r, row), kept);
      if (place.expert + 1 < n_experts) continue;
      atomicAdd(p.y + b * p.rows + place.tile * kTileRows + r, kept);  // the only addition: see matvec.cu
      kept = 0;
    }
  }
}

template <class T, bool kGated, int kVectors>
void launch(const ExpertMatVec& a, const Stream& stream) {
  const MatVec& p = a.product;
  const auto kernel = expert_kernel<T, kGated, kVectors>;
  const int64_t vectors = kGated ? p.n * p.cols * int64_t(sizeof(T)) : 0;
  check(vectors <= max_expert_vector_bytes(), "expert_matvec: vectors longer than shared memory");
  const int64_t bytes = kQueueBytes + 2 * sums_of(p) * int64_t(sizeof(float)) + vectors;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
             "shared memory");
  const int64_t tiles = ((kGated ? p.rows / 2 : p.rows) + kTileRows - 1) / kTileRows;
  const int64_t most = kGated ? tiles * p.n * a.n_per_token : tiles;
  const auto blocks = std::min<int64_t>(most, 2 * attribute(cudaDevAttrMultiProcessorCount));
  launch_early(kernel, dim3(unsigned(blocks)), kThreads, int(bytes), stream, "experts times vectors", a,
               int(tiles));
}

}  // namespace

int64_t max_expert_vector_bytes() {
  return max_vector_bytes() - int64_t(sizeof(Visits));
}

void expert_matvec(const ExpertMatVec& a, const Stream& stream) {
  const MatVec& p = a.product;
  check(p.w && p.rows > 0 && p.rows < 1 << 24 && p.cols > 0 && p.cols < 1 << 24 && p.cols % 8 == 0 &&
            p.n > 0 && p.n <= kMaxVectors && aligned(p.w, 16),
        "expert_matvec: the product");
  check(a.expert && a.n_per_token > 0 && p.n * a.n_per_token <= kMaxVisits, "expert_matvec: experts");
  const bool gated = p.gated != nullptr;
  check(gated ? p.x && !p.x_low && !p.y && p.rows % 2 == 0
              : p.x_low && !p.x && p.y && p.add && a.weight && !p.norm_weight,
        "expert_matvec: vectors and results");
  check(!p.x_half && !p.best, "expert_matvec: what it does not do");
  check(p.activation != Activation::clamped || a.limit > 0, "expert_matvec: activation");
  for (const void* vector : {static_cast<const void*>(p.x), p.x_low, static_cast<const void*>(p.norm_weight)})
    check(!vector || aligned(vector, 16), "expert_matvec: alignment");
  with_type(p.type, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (gated)
      p.n <= 8 ? launch<T, true, 8>(a, stream) : launch<T, true, 16>(a, stream);
    else
      p.n <= 8 ? launch<T, false, 8>(a, stream) : launch<T, false, 16>(a, stream);
  });
}

}  // namespace blockgtq::cuda
