#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "quant/head_map.h"
#include "quant/method_choice.h"
#include "quant/share.h"
#include "quant/stats.h"

namespace blockgtq {

/// The key in a map's provenance under which it says how its allocation departs from the published one.
inline constexpr const char* kAllocatorKey = "allocator";

/// The bits of all heads at one budget.
struct Budget {
  double average_bits = 0;                 // per coordinate, as asked for
  std::vector<uint8_t> bits = {};          // (L, H, B) by the published energy score
  std::vector<uint8_t> product_bits = {};  // (L, H, B) by the product score; empty without calibration
  std::vector<uint8_t> key_bits = {};      // (L, H, D / 2) of the key basis; empty without one
  std::vector<uint8_t> value_bits = {};    // (L, H, Dv / 2) of the value basis; empty without one
  int min_bits = 1, max_bits = 8;          // limits of bits and product_bits
  bool published = true;                   // by greedy at nominal cost, with a budget per head
};

/// One head of a budget: views of its arrays and of calibration (L, H). Empty arrays give empty views.
HeadMap head_map(const AttentionShape& shape, const Budget& budget,
                 const std::vector<HeadCalibration>& calibration, uint64_t seed, int layer, int kv_head);

/// What `calibrate` writes: a bit width per layer, KV head and block, and all that a serving engine needs to
/// apply them. Blocks are in block order (BlockLayout), not in the order of raw coordinates.
struct BitMap {
  std::string method = "block-gtq";
  AttentionShape shape;
  int min_bits = 1, max_bits = 8;
  uint64_t seed = 42;                        // of rotations: the group of b bits uses seed + b
  std::vector<double> energy;                // (L, H, B)
  std::vector<Budget> budgets;               // ascending average_bits
  std::vector<HeadCalibration> calibration;  // (L, H); empty in files of version 1
  std::vector<MethodChoice> choices;         // one per side and budget; empty without calibrate --choose
  std::string signature;
  Provenance provenance;

  int n_blocks() const { return shape.layout.n_blocks(); }
  std::span<const double> head_energy(int layer, int kv_head) const;                // (B)
  std::span<const uint8_t> head_bits(const Budget&, int layer, int kv_head) const;  // (B)
  /// What a quantizer of this head is made from. It points into this map and into the budget.
  HeadMap head(const Budget& budget, int layer, int kv_head) const {
    return head_map(shape, budget, calibration, seed, layer, kv_head);
  }
  /// The budget of this average; null where the map does not hold it.
  const Budget* find(double average_bits) const;
  /// The choice for this side and average; null where the map does not hold it.
  const MethodChoice* choice(Side side, double average_bits) const;
};

/// The default and the largest number of centres of keys, and of values, that a map holds per head. The
/// number is a power of two up to kMaxCentres, or 1, which means none.
inline constexpr int kCentres = 64, kMaxCentres = 256;

/// Makes a map from statistics: energies, means, centres and bases, then the bits of every (layer, KV head)
/// at every budget. budgets: average bits per coordinate, counted as spec's cost counts them. The default
/// spec is the published allocator. Bits in the bases of keys and values go by marginal gain, and there
/// spec's cost counts a norm per group of keys and one norm of values. calibration (L * H): the result of
/// calibrate_head() for every head, where the caller has it already; n_centres is then ignored.
/// Exit::usage as allocate_heads(); Exit::nonfinite where a sum of the statistics is not finite.
BitMap make_bit_map(const Stats& stats, const std::vector<double>& budgets, const ShareSpec& spec = {},
                    int n_centres = kCentres, std::vector<HeadCalibration> calibration = {});

}  // namespace blockgtq
