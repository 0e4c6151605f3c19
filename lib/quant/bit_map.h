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

/// The row of a map's provenance that says how its allocation departs from the published one.
inline constexpr const char* kAllocatorKey = "allocator";

/// The allocation of one budget.
struct Budget {
  double average_bits = 0;                 // as asked for
  std::vector<uint8_t> bits = {};          // (L, H, B) by the published energy score
  std::vector<uint8_t> product_bits = {};  // (L, H, B) by the product score; empty without calibration
  std::vector<uint8_t> key_bits = {};      // (L, H, D / 2) of the key basis; empty without one
  std::vector<uint8_t> value_bits = {};    // (L, H, Dv / 2) of the value basis; empty without one
  int min_bits = 1, max_bits = 8;          // of bits and product_bits
  bool published = true;                   // bits by the greedy allocator at nominal cost, each head its own
};

/// The part of one head: views of the budget's arrays and of calibration (L, H), empty where those are.
HeadMap head_map(const AttentionShape& shape, const Budget& budget,
                 const std::vector<HeadCalibration>& calibration, uint64_t seed, int layer, int kv_head);

/// What `calibrate` writes: bits per layer, KV head and block (block order, never raw dimensions) and all
/// that a serving engine needs to apply them.
struct BitMap {
  std::string method = "block-gtq";
  AttentionShape shape;
  int min_bits = 1, max_bits = 8;
  uint64_t seed = 42;                        // rotation seed: group of b bits uses seed + b
  std::vector<double> energy;                // (L, H, B)
  std::vector<Budget> budgets;               // ascending average_bits
  std::vector<HeadCalibration> calibration;  // (L, H); empty in files of version 1
  std::vector<MethodChoice> choices;         // one per side and budget; empty where none was made
  std::string signature;
  Provenance provenance;

  int n_blocks() const { return shape.layout.n_blocks(); }
  std::span<const double> head_energy(int layer, int kv_head) const;                // (B)
  std::span<const uint8_t> head_bits(const Budget&, int layer, int kv_head) const;  // (B)
  /// What a quantizer of this head is made from; points into the map and the budget.
  HeadMap head(const Budget& budget, int layer, int kv_head) const {
    return head_map(shape, budget, calibration, seed, layer, kv_head);
  }
  /// The budget of this average; null when the map does not hold it.
  const Budget* find(double average_bits) const;
  /// The choice of this side and average; null when the map does not hold it.
  const MethodChoice* choice(Side side, double average_bits) const;
};

/// Centres of keys and of values that a map holds unless told otherwise: a power of two up to kMaxCentres, or
/// 1, none.
inline constexpr int kCentres = 64, kMaxCentres = 256;

/// Energies, means, centres and value bases from the statistics, then the bits of every (layer, KV head) for
/// every budget; budgets are average bits per coordinate, of all that spec's cost counts (in the bases of
/// keys and values, whose bits go by marginal gain, a norm per group of keys and one of values). The default
/// is the published allocator. calibration (L * H): calibrate_head() of every head where that is done
/// already; n_centres says nothing then.
BitMap make_bit_map(const Stats& stats, const std::vector<double>& budgets, const ShareSpec& spec = {},
                    int n_centres = kCentres, std::vector<HeadCalibration> calibration = {});

}  // namespace blockgtq
