// Bit-shift trellis codes: the Viterbi search for one vector, by a warp. quant/trellis.cpp is the CPU twin.
// Lane l has states 8 l .. 8 l + 7. States that share their upper bits compete for the same successors. They
// lie in one lane up to 3 bits, and in two or four lanes above. The least cost of each such set goes to
// shared memory, from where every lane reads the eight costs that its states follow. A coordinate takes some
// 50 instructions in each of the two passes.
#pragma once
#include "kernels/codes/linear_table.cuh"
#include "kernels/device/reduce.cuh"
#include "quant/trellis.h"

namespace blockgtq::cuda {

inline constexpr int kStatesPerLane = kTrellisStates / 32;
inline constexpr float kForbidden = 1e30f;
static_assert(kStatesPerLane == 8);

/// A warp's shared memory.
struct TrellisScratch {
  float* least;               // (2, kTrellisStates / 2) least costs, at a multiple of 16 bytes
  uint8_t *winners, *states;  // (D, 32) winners by coordinate and lane, (D) the path
  static constexpr int bytes(int dim) {
    return kTrellisStates * int(sizeof(float)) + (dim * 33 + 15) / 16 * 16;
  }
  __device__ TrellisScratch(void* base, int dim)
      : least(static_cast<float*>(base)),
        winners(reinterpret_cast<uint8_t*>(least + kTrellisStates)),
        states(winners + dim * 32) {}
};

__device__ inline int lane_index() {
  return int(threadIdx.x % 32);
}

__device__ inline float square(float x) {
  return x * x;
}

/// Among the states that share their upper bits (state >> bits), finds the one of least cost. The cost goes
/// to `least`, by state >> bits, and the winner's low bits go to the lane's byte of `winner`.
template <int kBits>
__device__ void compete(const float (&cost)[kStatesPerLane], float* least, uint8_t* winner, int lane) {
  constexpr int kRivals = kBits < 3 ? 1 << kBits : kStatesPerLane;  // competing states within a lane
  constexpr int kPlaces = kStatesPerLane / kRivals;
  float best[kPlaces];
  int won = 0;
#pragma unroll
  for (int p = 0; p < kPlaces; ++p) {
    best[p] = cost[p * kRivals];
    int low = 0;
#pragma unroll
    for (int i = 1; i < kRivals; ++i)
      if (cost[p * kRivals + i] < best[p]) best[p] = cost[p * kRivals + i], low = i;
    won |= low << (p * kBits);
  }
  if constexpr (kBits <= 3) {
#pragma unroll
    for (int p = 0; p < kPlaces; ++p) least[lane * kPlaces + p] = best[p];
  } else {
    constexpr int kSharing = 1 << (kBits - 3);  // lanes that share a set of competing states
    won |= (lane % kSharing) << 3;
#pragma unroll
    for (int apart = 1; apart < kSharing; apart *= 2) {
      const float other = __shfl_xor_sync(kWholeWarp, best[0], apart);
      const int at = __shfl_xor_sync(kWholeWarp, won, apart);
      if (other < best[0] || (other == best[0] && at < won)) best[0] = other, won = at;
    }
    if (lane % kSharing == 0) least[lane / kSharing] = best[0];
  }
  winner[lane] = uint8_t(won);
}

/// The low bits of the state that won `place`, which is a state >> bits.
template <int kBits>
__device__ int winner_of(const uint8_t* winner, int place) {
  if constexpr (kBits <= 3) {
    constexpr int kPlaces = kBits < 3 ? kStatesPerLane >> kBits : 1;
    return winner[place / kPlaces] >> (place % kPlaces * kBits) & ((1 << kBits) - 1);
  } else {
    return winner[place << (kBits - 3)];
  }
}

/// Searches the states of the best path for y (d), beginning at coordinate `turn`. Where seam >= 0, the bits
/// before the first code and the bits that end the stream are held to it. Returns the state to which `until`
/// steps back from the end have led. states (d) gets all states that were passed.
template <int kBits>
__device__ int search(const float* y, int d, int turn, int seam, int until,
                      const float (&table)[kStatesPerLane], const TrellisScratch& scratch) {
  constexpr int kPlaces = kTrellisStates >> kBits;
  const int lane = lane_index(), own = lane * kStatesPerLane;
  float cost[kStatesPerLane];
#pragma unroll
  for (int i = 0; i < kStatesPerLane; ++i) {
    const bool allowed = seam < 0 || ((own + i) & (kPlaces - 1)) == seam;
    cost[i] = allowed ? square(y[turn] - table[i]) : kForbidden;
  }
  for (int j = 1, at = turn + 1; j < d; ++j, ++at) {
    at = at < d ? at : 0;
    float* least = scratch.least + j % 2 * (kTrellisStates / 2);
    compete<kBits>(cost, least, scratch.winners + j * 32, lane);
    __syncwarp();
    const auto* from = reinterpret_cast<const float4*>(least + (own & (kPlaces - 1)));
    const float4 a = from[0], b = from[1];
    const float before[] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < kStatesPerLane; ++i) cost[i] = before[i] + square(y[at] - table[i]);
  }
  float least = 2 * kForbidden;
  int state = 0;
#pragma unroll
  for (int i = 0; i < kStatesPerLane; ++i) {
    const float c = seam < 0 || (own + i) >> kBits == seam ? cost[i] : kForbidden;
    if (c < least) least = c, state = own + i;
  }
  warp_least(least, state);
  __syncwarp();  // the last winners are written
  for (int j = d - 1;; --j) {
    if (lane == 0) scratch.states[j] = uint8_t(state);
    if (j == d - 1 - until) break;
    const int place = state & (kPlaces - 1);
    state = place << kBits | winner_of<kBits>(scratch.winners + j * 32, place);
  }
  __syncwarp();
  return state;
}

/// scratch.states (d) = the windows of the codes of y (d). centroids (kTrellisStates) lie in global memory.
template <int kBits>
__device__ inline void find_windows(const float* y, int d, const float* centroids,
                                    const TrellisScratch& scratch) {
  float table[kStatesPerLane];
#pragma unroll
  for (int i = 0; i < kStatesPerLane; ++i) table[i] = __ldg(centroids + lane_index() * kStatesPerLane + i);
  const int half = d / 2;
  // The first search begins in the middle, so that coordinate 0 stands at d - half. Its state has the
  // bits at the seam.
  const int first = search<kBits>(y, d, half, -1, half - 1, table, scratch);
  search<kBits>(y, d, 0, first & ((kTrellisStates >> kBits) - 1), d - 1, table, scratch);
}

/// Replaces y (d) by the values of its codes.
template <int kBits>
__device__ inline void trellis(float* y, const LinearGroup& g, const TrellisScratch& scratch) {
  find_windows<kBits>(y, g.d, g.centroids, scratch);
  for (int j = lane_index(); j < g.d; j += 32) y[j] = __ldg(g.centroids + scratch.states[j]);
  __syncwarp();
}

__device__ inline void trellis(float* y, const LinearGroup& g, const TrellisScratch& scratch) {
  switch (g.bits) {
    case 1:
      return trellis<1>(y, g, scratch);
    case 2:
      return trellis<2>(y, g, scratch);
    case 3:
      return trellis<3>(y, g, scratch);
    case 4:
      return trellis<4>(y, g, scratch);
    default:
      return trellis<5>(y, g, scratch);
  }
}

}  // namespace blockgtq::cuda
