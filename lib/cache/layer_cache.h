#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "cache/attention.h"

namespace blockgtq {

struct PackedSpec;

/// Writes and reads one layer's packed pages on the CPU, whatever their codes.
class LayerCache {
 public:
  virtual ~LayerCache() = default;
  virtual const PackedSpec& spec() const = 0;
  virtual int page_bytes() const = 0;  // of 64 positions, all KV heads

  /// Encodes position t of the sequence into `page`, which holds it; other positions of the page stay. k (H,
  /// D) after RoPE, v (H, D).
  virtual void write(int64_t t, const float* k, const float* v, uint8_t* page) const = 0;

  /// Decodes position t. k (H, D) after RoPE, v (H, D).
  virtual void read(int64_t t, const uint8_t* page, double* k, double* v) const = 0;

  /// Decodes positions [first, end). pages: those of positions [0, 64), [64, 128), ...
  PlainPositions read(std::span<const uint8_t* const> pages, int64_t first, int64_t end) const;
};

/// A TrellisCache where keys or values have trellis codes, else a PackedCache. Errors as
/// require_trellis_pages().
std::unique_ptr<LayerCache> make_layer_cache(PackedSpec spec);

}  // namespace blockgtq
