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

/// greedy: as published. exact: the optimum of sum s_i D(b_i). mixing: the least logit error where the
/// rotation of a group spreads the group's error evenly over its blocks.
enum class Allocator { greedy, exact, mixing };
Allocator parse_allocator(const std::string& name);
const char* name(Allocator allocator);

/// low, low + 1, ..., high
std::vector<int> width_range(int low, int high);

struct AllocatorSpec {
  Allocator allocator = Allocator::greedy;
  Cost cost;
  std::vector<int> widths = width_range(1, kMaxBits);  // allowed, ascending; greedy takes a full range only
  int max_groups = kMaxBits;                           // greedy cannot keep to fewer
  bool stop_without_gain = false;                      // of greedy, as in AllocateOptions
  int group_blocks = 1;  // a group's blocks are a multiple of this; greedy cannot keep to it
  Distortion distortion = Distortion::power_law();  // D of exact and mixing; greedy's is 4^-b
};

/// The bits of one head, and the error that the allocator's model expects of them: the mean squared logit
/// error (of mixing), or the same estimated from the score: sum s_i D(b_i) times sum Eq_i Ek_i / (2 sum s_i),
/// without q and k just the sum.
struct Allocation {
  std::vector<uint8_t> bits;  // (B); empty where the capacity does not hold the narrowest width
  double error = 0;           // infinity there
};

/// One head at every capacity, in block bits as spec.cost counts them. Deterministic.
/// greedy: under a nominal cost the published loop; otherwise its longest run whose cost fits.
/// exact: the optimum. mixing: the optimum over all cuts of four orders of the blocks (by score, Eq Ek, Ek
/// and Eq) into runs, then exchanges of blocks between groups while they gain.
std::vector<Allocation> allocate_head(const HeadEnergy& head, const AllocatorSpec& spec,
                                      std::span<const int64_t> capacities);

/// Exit::usage where spec asks for what its allocator cannot do.
void check_allocator(const AllocatorSpec& spec);
/// Exit::usage where a head of so many blocks cannot be cut as spec asks.
void check_blocks(const AllocatorSpec& spec, int n_blocks);

}  // namespace blockgtq
