#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace blockgtq {

/// Blocks in a given order that are to be cut into runs of strictly descending width. Costs are in block
/// bits.
struct RunProblem {
  int n_blocks = 0;
  std::vector<int> widths;  // allowed, ascending
  int per_group = 0;        // cost of opening a run, besides its bits; a run of 0 bits costs nothing
  int max_groups = 0;       // of runs
  int multiple = 1;         // every run has a multiple of this many blocks; divides n_blocks
  /// The error of blocks [first, end) at one width; finite.
  std::function<double(int width, int first, int end)> error;
};

/// The widths of the blocks, in the problem's order, and the error of their runs.
struct Cuts {
  std::vector<uint8_t> bits;  // (n_blocks); empty where the capacity does not hold the narrowest width
  double error = 0;           // infinity where bits is empty
};

/// The least error for every capacity, over all cuts and widths, by dynamic programming in O(widths *
/// n_blocks^2 * largest capacity * max_groups); max_groups drops out where it does not bind. Of equal errors
/// the cheaper one wins, then the one with more blocks at the wider widths.
std::vector<Cuts> cut_runs(const RunProblem& problem, std::span<const int64_t> capacities);

}  // namespace blockgtq
