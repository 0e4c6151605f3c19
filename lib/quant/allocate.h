#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace blockgtq {

/// The budget of one head, and the limits of its blocks.
struct AllocateOptions {
  /// Average per coordinate. floor(n_blocks * average_bits) bits are handed out in all; one of them gives one
  /// more bit to both coordinates of a block.
  double average_bits = 3;
  int min_bits = 1, max_bits = 8;
  /// As the published code: a bit that no block gains from is not handed out.
  bool stop_without_gain = false;
};

/// The published greedy allocator. Every block starts at min_bits. Each further bit goes to the block with
/// the largest energy_i * 4^(-bits_i) that is below max_bits; the lowest index wins a tie. energy (n_blocks)
/// is finite and not negative. Returns (n_blocks). Takes O(total bits * log n).
/// Exit::usage where average_bits lies outside [min_bits, max_bits], or these outside 1..8. Exit::nonfinite
/// where an energy is not finite.
std::vector<uint8_t> allocate_greedy(std::span<const double> energy, const AllocateOptions& options);

}  // namespace blockgtq
