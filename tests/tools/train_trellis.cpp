// Learns the tables of lib/quant/trellis_table.cpp and prints their numbers; mean squared errors go to
// stderr.
//
// A table begins as the quantiles of the normal distribution, dealt out so that the states that follow one
// state, and those that compete for one place, each get one of every 2^bits strata (a Latin square, as in set
// partitioning); then come rounds of encoding normal numbers and of taking the mean of what fell on every
// entry. The best of kSeeds is learned to the end.
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <utility>
#include <vector>

#include "quant/random.h"
#include "quant/trellis.h"

using namespace blockgtq;

namespace {

constexpr int kDim = 64, kSeeds = 8, kShort = 20, kLong = 100;
constexpr size_t kVectors = 2048;

double normal_quantile(double p) {
  double low = -8, high = 8;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return low;
}

TrellisTable first_table(int bits, Random& random) {
  const int strata = 1 << bits, places = kTrellisStates >> bits;
  std::vector<std::vector<int>> states(strata);
  for (int s = 0; s < kTrellisStates; ++s) {
    const int code = s / places, dropped = s & (strata - 1), between = (s & (places - 1)) >> bits;
    states[code ^ dropped ^ (between * 5 & (strata - 1))].push_back(s);
  }
  TrellisTable table;
  for (int k = 0; k < strata; ++k) {
    for (int i = places - 1; i > 0; --i)
      std::swap(states[k][i], states[k][size_t(random.next_double() * (i + 1))]);
    for (int i = 0; i < places; ++i)
      table[states[k][i]] = float(normal_quantile((k * places + i + 0.5) / kTrellisStates));
  }
  return table;
}

/// Encodes fresh numbers, moves every entry to the mean of what fell on it; returns the error before that.
double improve(TrellisTable& table, int bits, Random& random) {
  std::vector<float> y(kVectors * kDim);
  for (float& x : y) x = float(random.standard_normal());
  std::vector<uint8_t> codes(y.size()), windows(kDim);
  const TrellisRun run{kDim, bits, table.data()};
  trellis_encode(y.data(), kVectors, {&run, 1}, codes.data());
  std::vector<double> sum(kTrellisStates), count(kTrellisStates);
  double error = 0;
  for (size_t v = 0; v < kVectors; ++v) {
    trellis_windows({&codes[v * kDim], size_t(kDim)}, {&run, 1}, windows.data());
    for (int j = 0; j < kDim; ++j) {
      const double x = y[v * kDim + j], e = x - table[windows[j]];
      error += e * e;
      sum[windows[j]] += x;
      ++count[windows[j]];
    }
  }
  for (int s = 0; s < kTrellisStates; ++s)
    if (count[s] > 1) table[s] = float(sum[s] / count[s]);
  return error / double(y.size());
}

}  // namespace

int main() {
  for (int bits = 1; bits <= kMaxTrellisBits; ++bits) {
    TrellisTable best;
    double least = INFINITY;
    for (int seed = 0; seed < kSeeds; ++seed) {
      Random random(seed);
      TrellisTable table = first_table(bits, random);
      double error = 0;
      for (int round = 0; round < kShort; ++round) error = improve(table, bits, random);
      if (error < least) least = error, best = table;
    }
    Random random(kSeeds);
    for (int round = 0; round < kLong; ++round) improve(best, bits, random);
    TrellisTable last = best;
    fmt::print(stderr, "{} bits: mean squared error {:.5f}\n", bits, improve(last, bits, random));
    fmt::print("    {{{{\n");
    for (int s = 0; s < kTrellisStates; ++s)
      fmt::print("{}{:.5f}F,{}", s % 8 ? " " : "        ", best[s], s % 8 == 7 ? "\n" : "");
    fmt::print("    }}}},\n");
  }
}
