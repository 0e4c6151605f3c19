// The search keeps, for every state (the last kTrellisWindow bits), the least cost of a path that ends there.
// From state s, code c leads to (s >> bits) | c << (window - bits). So the 2^bits states that share their
// upper bits compete for one place, and the winner continues with every code. kLanes vectors are searched in
// parallel:
//   cost   (states, lanes)             of the paths so far
//   winner (d, states >> bits, lanes)  the low bits of the state that won
#include "quant/trellis.h"

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace blockgtq {
namespace {

constexpr int kLanes = 8;
constexpr float kForbidden = 1e30F;
constexpr int kMostPlaces = kTrellisStates / 2;

// Vector types of GCC and clang: comparisons give masks, and ?: selects per lane.
using Lane [[gnu::vector_size(kLanes * 4)]] = float;
using Bits [[gnu::vector_size(kLanes * 4)]] = int;
using Winner [[gnu::vector_size(kLanes)]] = uint8_t;

class Search {
 public:
  explicit Search(std::span<const TrellisRun> runs) {
    for (const TrellisRun& run : runs) {
      check(run.bits >= 1 && run.bits <= kMaxTrellisBits, "trellis_encode: no trellis of so many bits");
      run_.insert(run_.end(), size_t(run.d), run);
    }
    check(run_.size() >= size_t(kLeastTrellisDim), "trellis_encode: a stream that is too short");
    winner_.resize(run_.size() * kMostPlaces);
  }
  int d() const { return int(run_.size()); }
  int bits(int j) const { return run_[j].bits; }

  /// states (d) of the best path for y (d) that begins at coordinate `turn`. With `seam`, the bits before its
  /// first code and the bits at its end are held to it.
  void search(const std::vector<Lane>& y, int turn, const Bits* seam, std::vector<Bits>& states) {
    const int d = this->d(), seam_bits = run_[turn].bits, mask = (kTrellisStates >> seam_bits) - 1;
    const Lane forbidden = Lane{} + kForbidden;
    for (int s = 0; s < kTrellisStates; ++s) {
      const Lane cost = error(y[turn], run_[turn], s);
      cost_[s] = seam ? (*seam == (s & mask) ? cost : forbidden) : cost;
    }
    for (int j = 1; j < d; ++j) {
      const int at = (turn + j) % d;
      step(y[at], run_[at], &winner_[size_t(j) * kMostPlaces]);
    }

    Bits best{};
    Lane least = 2 * forbidden;
    for (int s = 0; s < kTrellisStates; ++s) {
      const Lane cost = seam ? (*seam == (s >> seam_bits) ? cost_[s] : forbidden) : cost_[s];
      best = cost < least ? Bits{} + s : best;
      least = cost < least ? cost : least;
    }
    for (int j = d - 1;; --j) {
      const int at = (turn + j) % d, bits = run_[at].bits;
      states[at] = best;
      if (j == 0) break;
      for (int l = 0; l < kLanes; ++l) {
        const int place = best[l] & ((kTrellisStates >> bits) - 1);
        best[l] = place << bits | winner_[size_t(j) * kMostPlaces + place][l];
      }
    }
  }

 private:
  static Lane error(Lane y, const TrellisRun& run, int state) {
    const Lane e = y - run.table[state];
    return run.weight * (e * e);
  }

  void step(Lane y, const TrellisRun& run, Winner* winner) {
    const int places = kTrellisStates >> run.bits;
    for (int place = 0; place < places; ++place) {
      const Lane* from = &cost_[size_t(place) << run.bits];
      Lane least = from[0];
      Bits won{};
      for (int low = 1; low < 1 << run.bits; ++low) {
        won = from[low] < least ? Bits{} + low : won;
        least = from[low] < least ? from[low] : least;
      }
      winner[place] = __builtin_convertvector(won, Winner);
      for (int s = place; s < kTrellisStates; s += places) next_[s] = least + error(y, run, s);
    }
    std::swap(cost_, next_);
  }

  std::vector<TrellisRun> run_;  // (d) that of every coordinate
  std::vector<Lane> cost_ = std::vector<Lane>(kTrellisStates), next_ = cost_;
  std::vector<Winner> winner_;
};

}  // namespace

void trellis_encode(const float* y, size_t n, std::span<const TrellisRun> runs, uint8_t* codes) {
  Search search(runs);
  const int d = search.d();
  std::vector<Lane> lanes(d);
  std::vector<Bits> states(d);
  for (size_t first = 0; first < n; first += kLanes) {
    const auto count = int(std::min<size_t>(kLanes, n - first));
    for (int j = 0; j < d; ++j)
      for (int l = 0; l < kLanes; ++l) lanes[j][l] = l < count ? y[(first + l) * d + j] : 0;
    search.search(lanes, d / 2, nullptr, states);
    Bits seam = states[0];
    seam &= (kTrellisStates >> search.bits(0)) - 1;
    search.search(lanes, 0, &seam, states);
    for (int l = 0; l < count; ++l)
      for (int j = 0; j < d; ++j)
        codes[(first + l) * d + j] = uint8_t(states[j][l] >> (kTrellisWindow - search.bits(j)));
  }
}

void trellis_windows(std::span<const uint8_t> codes, std::span<const TrellisRun> runs, uint8_t* windows) {
  unsigned window = 0;
  // The window before the first coordinate is the end of the stream, so the second round has all bits.
  for (int round = 0; round < 2; ++round) {
    size_t j = 0;
    for (const TrellisRun& run : runs)
      for (int i = 0; i < run.d; ++i, ++j) {
        window = window >> run.bits | unsigned(codes[j]) << (kTrellisWindow - run.bits);
        windows[j] = uint8_t(window);
      }
  }
}

}  // namespace blockgtq
