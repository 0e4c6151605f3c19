#include "quant/allocate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "quant/codebook.h"

namespace blockgtq {

namespace {

void check_options(const AllocateOptions& o) {
  if (o.min_bits < 1 || o.max_bits > kMaxBits || o.min_bits > o.max_bits)
    throw Error(Exit::usage, fmt::format("bits per block: {} to {} found, a range within 1 to {} allowed",
                                         o.min_bits, o.max_bits, kMaxBits));
  if (!(o.average_bits >= o.min_bits && o.average_bits <= o.max_bits))
    throw Error(Exit::usage, fmt::format("average bits: {} found, {} to {} allowed", o.average_bits,
                                         o.min_bits, o.max_bits));
}

void check_energy(std::span<const double> energy) {
  for (size_t i = 0; i < energy.size(); ++i) {
    if (!std::isfinite(energy[i]))
      throw Error(Exit::nonfinite, fmt::format("energy of block {}: not finite: {} found", i, energy[i]));
    if (energy[i] < 0) fail_input("energy of block {}: {} found, not negative allowed", i, energy[i]);
  }
}

// The gain from one more bit of a block, and the block.
struct Claim {
  double worth;  // energy * 4^(-bits)
  size_t block;
};

// Heap order: the largest worth is on top; of equal ones, the lowest block.
bool below(const Claim& a, const Claim& b) {
  return a.worth < b.worth || (a.worth == b.worth && a.block > b.block);
}

}  // namespace

std::vector<uint8_t> allocate_greedy(std::span<const double> energy, const AllocateOptions& options) {
  check_options(options);
  check_energy(energy);
  const size_t n = energy.size();
  // An average such as 2.3 has no exact double. 10 blocks at 2.3 must be 23 bits, even where the product is
  // just below 23. The guard is far above that error (1e-13), and far below any average that a user could
  // mean.
  const auto total = size_t(std::floor(double(n) * options.average_bits + 1e-9));

  std::vector<uint8_t> bits(n, uint8_t(options.min_bits));
  std::vector<Claim> heap;
  if (options.min_bits < options.max_bits)
    for (size_t i = 0; i < n; ++i) heap.push_back({std::ldexp(energy[i], -2 * options.min_bits), i});
  std::make_heap(heap.begin(), heap.end(), below);
  for (size_t left = total - n * options.min_bits; left > 0 && !heap.empty(); --left) {
    if (options.stop_without_gain && heap.front().worth == 0) break;
    std::pop_heap(heap.begin(), heap.end(), below);
    Claim& top = heap.back();
    if (++bits[top.block] == options.max_bits) {
      heap.pop_back();
      continue;
    }
    top.worth *= 0.25;
    std::push_heap(heap.begin(), heap.end(), below);
  }
  return bits;
}

}  // namespace blockgtq
