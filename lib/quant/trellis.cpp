// The search keeps, for every state (the last kTrellisWindow bits), the least cost of a path that ends there.
// From
// state s, code c leads to (s >> bits) | c << (window - bits). So the 2^bits states that share their upper
// bits
// compete for one place, and the winner continues with every code. kLanes vectors are searched in parallel:
//   cost   (states, lanes)         of the paths so far
//   winner (d, states >> bits, lanes) the low bits of the state that won
#include "quant/trellis.h"

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace blockgtq {
namespace {

constexpr int kLanes = 8;
constexpr float kForbidden = 1e30F;

// Vector types of GCC and clang: comparisons give masks, and ?: selects per lane.
using Lane [[gnu::vector_size(kLanes * 4)]] = float;
using Bits [[gnu::vector_size(kLanes * 4)]] = int;
using Winner [[gnu::vector_size(kLanes)]] = uint8_t;

class Search {
 public:
  Search(int d, int bits, const TrellisTable& table)
      : d_(d), bits_(bits), places_(kTrellisStates >> bits), table_(table), winner_(size_t(d) * places_) {}

  /// states (d) of the best path for y (d). With `seam`, the bits before the first code and the bits at the
  /// end of the stream are fixed to it.
  void run(const std::vector<Lane>& y, const Bits* seam, std::vector<Bits>& states) {
    const Lane forbidden = Lane{} + kForbidden;
    for (int s = 0; s < kTrellisStates; ++s) {
      const Lane cost = square(y[0] - table_[s]);
      cost_[s] = seam ? (*seam == (s & (places_ - 1)) ? cost : forbidden) : cost;
    }
    for (int j = 1; j < d_; ++j) step(y[j], &winner_[size_t(j) * places_]);

    Bits best{};
    Lane least = 2 * forbidden;
    for (int s = 0; s < kTrellisStates; ++s) {
      const Lane cost = seam ? (*seam == (s >> bits_) ? cost_[s] : forbidden) : cost_[s];
      best = cost < least ? Bits{} + s : best;
      least = cost < least ? cost : least;
    }
    for (int j = d_ - 1;; --j) {
      states[j] = best;
      if (j == 0) break;
      for (int l = 0; l < kLanes; ++l) {
        const int place = best[l] & (places_ - 1);
        best[l] = place << bits_ | winner_[size_t(j) * places_ + place][l];
      }
    }
  }

 private:
  static Lane square(Lane x) { return x * x; }

  void step(Lane y, Winner* winner) {
    for (int place = 0; place < places_; ++place) {
      const Lane* from = &cost_[size_t(place) << bits_];
      Lane least = from[0];
      Bits won{};
      for (int low = 1; low < 1 << bits_; ++low) {
        won = from[low] < least ? Bits{} + low : won;
        least = from[low] < least ? from[low] : least;
      }
      winner[place] = __builtin_convertvector(won, Winner);
      for (int s = place; s < kTrellisStates; s += places_) next_[s] = least + square(y - table_[s]);
    }
    std::swap(cost_, next_);
  }

  int d_, bits_, places_;
  const TrellisTable& table_;
  std::vector<Lane> cost_ = std::vector<Lane>(kTrellisStates), next_ = cost_;
  std::vector<Winner> winner_;
};

}  // namespace

void trellis_encode(const float* y, size_t n, int d, int bits, const TrellisTable& table, uint8_t* codes) {
  check(bits >= 1 && bits <= kMaxTrellisBits && d >= kLeastTrellisDim,
        "trellis_encode: no trellis of this size");
  Search search(d, bits, table);
  std::vector<Lane> turned(d), straight(d);
  std::vector<Bits> states(d);
  const int half = d / 2, places = kTrellisStates >> bits;
  for (size_t first = 0; first < n; first += kLanes) {
    const auto lanes = int(std::min<size_t>(kLanes, n - first));
    for (int j = 0; j < d; ++j)
      for (int l = 0; l < kLanes; ++l) {
        const float value = l < lanes ? y[(first + l) * d + j] : 0;
        straight[j][l] = value;
        turned[(j + d - half) % d][l] = value;
      }
    search.run(turned, nullptr, states);
    Bits seam = states[d - half];  // of the first coordinate
    seam &= places - 1;
    search.run(straight, &seam, states);
    for (int l = 0; l < lanes; ++l)
      for (int j = 0; j < d; ++j)
        codes[(first + l) * d + j] = uint8_t(states[j][l] >> (kTrellisWindow - bits));
  }
}

void trellis_windows(std::span<const uint8_t> codes, int bits, uint8_t* windows) {
  const size_t d = codes.size();
  // The window before the first coordinate is the end of the stream.
  unsigned window = 0;
  for (size_t j = d - std::min<size_t>(d, kTrellisWindow); j < d; ++j)
    window = window >> bits | unsigned(codes[j]) << (kTrellisWindow - bits);
  for (size_t j = 0; j < d; ++j) {
    window = window >> bits | unsigned(codes[j]) << (kTrellisWindow - bits);
    windows[j] = uint8_t(window);
  }
}

}  // namespace blockgtq
