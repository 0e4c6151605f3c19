#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace blockgtq {

/// Blocks in a given order, cut into runs of strictly descending width. Costs are in block bits.
struct RunProblem {
  int n_blocks = 0;
  std::vector<int> widths;  // allowed, ascending
  int per_group = 0;        // what opening a run takes beside its bits; a run of 0 bits is not stored
  int max_groups = 0;       // runs at most
  int multiple = 1;         // of blocks in a run; n_blocks is one
  /// The error of blocks [first, end) at one width; finite.
  std::function<double(int width, int first, int end)> error;
};

/// Widths of the blocks in that order, and the error of their runs.
struct Cuts {
  std::vector<uint8_t> bits;  // (n_blocks); empty where the capacity does not hold the narrowest width
  double error = 0;           // infinity there
};

/// The least error for every capacity, over all cuts and widths, by dynamic programming:
/// O(widths * n_blocks^2 * largest capacity * max_groups), max_groups left out where it does not bind. Among
/// equals the cheaper one, then the one that gives more blocks to the wider widths.
std::vector<Cuts> cut_runs(const RunProblem& problem, std::span<const int64_t> capacities);

}  // namespace blockgtq
