#pragma once
#include <cstdint>
#include <vector>

#include "base/blocks.h"
#include "cache/layer_cache.h"
#include "cache/page_layout.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// How one layer's cache is packed: keys after RoPE, values, per KV head.
struct PackedSpec {
  BlockLayout layout;             // D, R, pairing
  std::vector<double> inv_freq;   // (R / 2), as the model rotates
  int n_heads = 0;                // Hq
  std::vector<LinearCode> key;    // (H); mean is of keys before RoPE: position t has R_t mean taken off
  std::vector<LinearCode> value;  // (H); one norm

  int n_kv_heads() const { return int(key.size()); }
};

/// R_t mean of a KV head's keys (D); zeros where keys are not centred.
std::vector<double> key_mean(const PackedSpec& spec, int head, int64_t t);

/// A KV head's value mean (D); zeros where values are not centred.
std::vector<double> value_mean(const PackedSpec& spec, int head);

/// What pages hold of a code: it without its fallback, in whose place a code with a mean has
/// LinearCode::mean_flag. Attention sinks and delimiters are near zero and far from the mean; they would err
/// most with it taken off. Pages have no place for centres yet, and for a trellis (trellis_cache.h) only
/// where all coordinates are one group: a defect in a cache that is given another.
LinearCode paged(LinearCode code);

/// A key or value on its way into a page: z, of which the mean is taken off or, where z is shorter so, not.
struct PagedVector {
  std::vector<double> z;
  bool keeps_mean = false;
};
/// x (D); mean (D): of its position.
PagedVector paged_vector(const LinearCode& code, const float* x, const std::vector<double>& mean);

int byte_centroid(float c, float largest);

/// The centroids that a cache's codes stand for. Rounding to bytes adds 0.07 % to the distortion at 3 bits,
/// 0.4 % at 4.
std::vector<double> cache_centroids(const LinearCode::Group& group);

/// Where the KV heads' blocks lie in a page.
struct PageShape {
  std::vector<BlockShape> blocks;  // (H)
  std::vector<int> offsets;        // (H)
  int bytes = 0;                   // of a page: 64 positions, all KV heads
};
PageShape page_shape(const PackedSpec& spec);

/// The CPU twin of the cache of scalar codes, in double precision but for what is stored: codes and fp16
/// norms.
class PackedCache final : public LayerCache {
 public:
  explicit PackedCache(PackedSpec spec);
  const PackedSpec& spec() const override { return spec_; }
  const PageShape& shape() const { return shape_; }
  int page_bytes() const override { return shape_.bytes; }
  void write(int64_t t, const float* k, const float* v, uint8_t* page) const override;
  void read(int64_t t, const uint8_t* page, double* k, double* v) const override;
  using LayerCache::read;

 private:
  PackedSpec spec_;
  PageShape shape_;
};

}  // namespace blockgtq
