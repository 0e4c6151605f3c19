// Bit-shift trellis codes: the Viterbi search for one stream, by a warp. quant/trellis.cpp is the CPU twin.
// Lane l has states 8 l .. 8 l + 7. States that share their upper bits compete for the same successors. They
// lie in one lane up to 3 bits, and in two or four lanes above. The least cost of each such set goes to
// shared memory, from where every lane reads the eight costs that its states follow. A coordinate takes some
// 50 instructions in each of the two passes.
#pragma once
#include <type_traits>

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

/// A stream whose codes all have the same number of bits.
template <int kBits>
struct UniformStream {
  int d;
  float table[kStatesPerLane];  // entries of the lane's states
  /// centroids (kTrellisStates) lie in global memory.
  __device__ UniformStream(int d, const float* centroids) : d(d) {
#pragma unroll
    for (int i = 0; i < kStatesPerLane; ++i) table[i] = __ldg(centroids + lane_index() * kStatesPerLane + i);
  }
  __device__ void enter(int) {}
  __device__ float error(float y, int i) const {
    return square(y - table[i]);
  }
  /// Calls f with the bits as an integral_constant.
  template <class F>
  __device__ void with_bits(F f) const {
    f(std::integral_constant<int, kBits>());
  }
};

/// A stream of groups, each with its number of bits, its table and its weight.
struct GroupStream {
  int d, first = 0, end = 0, bits = 0;  // of the group that was entered
  const LinearGroup* groups;
  float weight = 1, table[kStatesPerLane] = {};
  __device__ GroupStream(int d, const LinearGroup* groups) : d(d), groups(groups) {}
  /// Goes to the group of coordinate `at`.
  __device__ void enter(int at) {
    if (at >= first && at < end) return;
    const LinearGroup* g = groups;
    while (at >= g->first + g->d) ++g;
    first = g->first, end = g->first + g->d, bits = g->bits, weight = g->weight;
#pragma unroll
    for (int i = 0; i < kStatesPerLane; ++i)
      table[i] = __ldg(g->centroids + lane_index() * kStatesPerLane + i);
  }
  __device__ float error(float y, int i) const {
    return weight * square(y - table[i]);
  }
  template <class F>
  __device__ void with_bits(F f) const {
    switch (bits) {
      case 1:
        return f(std::integral_constant<int, 1>());
      case 2:
        return f(std::integral_constant<int, 2>());
      case 3:
        return f(std::integral_constant<int, 3>());
      case 4:
        return f(std::integral_constant<int, 4>());
      default:
        return f(std::integral_constant<int, 5>());
    }
  }
};

/// Searches the states of the best path for y (d), beginning at coordinate `turn`. Where seam >= 0, the bits
/// before the first code and the bits that end the stream are held to it. Returns the state to which `until`
/// steps back from the end have led. states (d) gets all states that were passed, by step.
template <class Stream>
__device__ int search(Stream& stream, const float* y, int turn, int seam, int until,
                      const TrellisScratch& scratch) {
  const int lane = lane_index(), own = lane * kStatesPerLane, d = stream.d;
  float cost[kStatesPerLane];
  int seam_bits = 0;
  stream.enter(turn);
  stream.with_bits([&](auto bits) { seam_bits = bits; });
#pragma unroll
  for (int i = 0; i < kStatesPerLane; ++i) {
    const bool allowed = seam < 0 || ((own + i) & ((kTrellisStates >> seam_bits) - 1)) == seam;
    cost[i] = allowed ? stream.error(y[turn], i) : kForbidden;
  }
  for (int j = 1, at = turn + 1; j < d; ++j, ++at) {
    at = at < d ? at : 0;
    stream.enter(at);
    float* least = scratch.least + j % 2 * (kTrellisStates / 2);
    stream.with_bits([&](auto bits) {
      compete<bits.value>(cost, least, scratch.winners + j * 32, lane);
      least += own & ((kTrellisStates >> bits) - 1);
    });
    __syncwarp();
    const auto* from = reinterpret_cast<const float4*>(least);
    const float4 a = from[0], b = from[1];
    const float before[] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int i = 0; i < kStatesPerLane; ++i) cost[i] = before[i] + stream.error(y[at], i);
  }
  float least = 2 * kForbidden;
  int state = 0;
#pragma unroll
  for (int i = 0; i < kStatesPerLane; ++i) {
    const float c = seam < 0 || (own + i) >> seam_bits == seam ? cost[i] : kForbidden;
    if (c < least) least = c, state = own + i;
  }
  warp_least(least, state);
  __syncwarp();  // the last winners are written
  for (int j = d - 1, at = turn > 0 ? turn - 1 : d - 1;; --j, --at) {
    at = at < 0 ? d - 1 : at;
    if (lane == 0) scratch.states[j] = uint8_t(state);
    if (j == d - 1 - until) break;
    stream.enter(at);
    stream.with_bits([&](auto bits) {
      const int place = state & ((kTrellisStates >> bits) - 1);
      state = place << bits | winner_of<bits.value>(scratch.winners + j * 32, place);
    });
  }
  __syncwarp();
  return state;
}

/// scratch.states (d) = the windows of the codes of y (d).
template <class Stream>
__device__ inline void find_windows(Stream& stream, const float* y, const TrellisScratch& scratch) {
  const int d = stream.d, half = d / 2;
  // The first search begins in the middle, so that coordinate 0 stands at d - half. Its state has the
  // bits at the seam.
  const int first = search(stream, y, half, -1, half - 1, scratch);
  stream.enter(0);
  int seam = 0;
  stream.with_bits([&](auto bits) { seam = first & ((kTrellisStates >> bits) - 1); });
  search(stream, y, 0, seam, d - 1, scratch);
}

}  // namespace blockgtq::cuda
