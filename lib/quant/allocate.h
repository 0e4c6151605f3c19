#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace blockgtq {

struct AllocateOptions {
  double average_bits = 3;  // per coordinate; floor(n_blocks * average_bits) block bits are handed out in all
  int min_bits = 1, max_bits = 8;
  bool stop_without_gain = false;  // as the published code: bits that no block gains from are not handed out
};

/// The greedy allocator: every block starts at min_bits, each further bit goes to the block with the largest
/// energy_i * 4^(-bits_i) below max_bits, lowest index on ties, also where nothing is left to gain. energy
/// (n_blocks) >= 0 and finite. O(total bits * log n). Exit::usage when average_bits lies outside [min_bits,
/// max_bits].
std::vector<uint8_t> allocate_greedy(std::span<const double> energy, const AllocateOptions& options);

}  // namespace blockgtq
