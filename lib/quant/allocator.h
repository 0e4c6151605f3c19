#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quant/codebook.h"
#include "quant/cost.h"
#include "quant/distortion.h"
#include "quant/head_energy.h"

namespace blockgtq {

/// greedy: the published one. exact: minimizes sum s_i D(b_i). mixing: minimizes the logit error, given that
/// the rotation of a group spreads the group's error evenly over its blocks.
enum class Allocator { greedy, exact, mixing };
/// Exit::usage for any other name.
Allocator parse_allocator(const std::string& name);
const char* name(Allocator allocator);

/// low, low + 1, ..., high.
std::vector<int> width_range(int low, int high);

/// Which allocator, and what it must keep to.
struct AllocatorSpec {
  Allocator allocator = Allocator::greedy;
  Cost cost;
  std::vector<int> widths = width_range(1, kMaxBits);  // allowed, ascending; greedy takes a full range only
  int max_groups = kMaxBits;                           // of a head; greedy cannot keep to fewer
  bool stop_without_gain = false;                      // greedy only, as in AllocateOptions
  int group_blocks = 1;  // every group has a multiple of this many blocks; greedy takes 1 only
  Distortion distortion = Distortion::power_law();  // D of exact and mixing; greedy uses 4^-b
};

/// The bits of one head and the error that the allocator predicts for them. For mixing that is the mean
/// squared logit error. For the others it is estimated from the score: sum s_i D(b_i) times sum Eq_i Ek_i /
/// (2 sum s_i). Where q and k are empty it is sum s_i D(b_i) alone.
struct Allocation {
  std::vector<uint8_t> bits;  // (B); empty where the capacity does not hold the narrowest width
  double error = 0;           // infinity where bits is empty
};

/// Allocates one head at every capacity. Capacities are in block bits, as spec.cost counts them
/// (quant/cost.h). Deterministic.
/// - greedy: the published loop. Under a cost other than nominal it is the longest run of that loop whose
///   cost fits.
/// - exact: the optimum.
/// - mixing: the optimum over all cuts into runs of four orders of the blocks (by score, Eq Ek, Ek and Eq).
///   Then blocks are exchanged between groups as long as that lowers the error.
/// Exit::usage as check_allocator() and check_blocks(); Exit::nonfinite where an energy is not finite.
std::vector<Allocation> allocate_head(const HeadEnergy& head, const AllocatorSpec& spec,
                                      std::span<const int64_t> capacities);

/// Exit::usage where spec asks for something that its allocator cannot do.
void check_allocator(const AllocatorSpec& spec);
/// Exit::usage where a head of n_blocks blocks cannot be cut into groups as spec asks.
void check_blocks(const AllocatorSpec& spec, int n_blocks);

}  // namespace blockgtq
