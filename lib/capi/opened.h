#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cache/packed_cache.h"
#include "capi/blockgtq.h"
#include "quant/attention_shape.h"

namespace blockgtq::capi {

inline constexpr int kCpu = -1;

/// What was opened: all that calls need to know beside tables. Heads are those of this cache.
struct Opened {
  AttentionShape shape;
  std::vector<PackedSpec> specs;  // (L), or empty: pages hold fp16
  int device = kCpu;
  int64_t longest = 0;
  bool trust_pointers = false;
  std::vector<blockgtq_layer> layers;  // (L)
  std::string key_method = "exact", value_method = "exact", pair = "exact", code = "fp16";
  double key_bits = 16, value_bits = 16;

  bool packed() const { return !specs.empty(); }
  bool trellis() const;
  int dim() const { return shape.layout.head_dim; }
  bool on_gpu() const { return device != kCpu; }
  int64_t exact_page_bytes() const;
};

/// Reads the map, if there is one. BLOCKGTQ_USAGE and BLOCKGTQ_INPUT as blockgtq.h says. The device is the
/// one that the options name, where `current` is the GPU that "cuda" means; whether it is there is not asked.
Opened open(const blockgtq_options& options, int current);

blockgtq_description describe(const Opened& opened);

}  // namespace blockgtq::capi
