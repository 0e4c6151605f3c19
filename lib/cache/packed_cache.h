#pragma once
#include <cstdint>
#include <vector>

#include "base/blocks.h"
#include "cache/centre_rule.h"
#include "cache/layer_cache.h"
#include "cache/page_layout.h"
#include "quant/linear_code.h"

namespace blockgtq {

/// How one layer's cache is packed, per KV head: keys after RoPE, and values.
struct PackedSpec {
  BlockLayout layout;            // D, R, pairing
  std::vector<double> inv_freq;  // (R / 2), as the model rotates
  int n_heads = 0;               // Hq
  std::vector<LinearCode> key;   // (H); its mean is of keys before RoPE: R_t mean is subtracted at position t
  std::vector<LinearCode> value;  // (H); one norm; all with as many centres
  int64_t page_pitch = 0;         // bytes from page to page on a GPU; 0: as many as a page has

  int n_kv_heads() const { return int(key.size()); }
  int n_centres() const { return value[0].n_centres(); }  // of values; 0: none
};

/// R_t mean of a KV head's keys at position t, (D); zeros where keys are not centred.
std::vector<double> key_mean(const PackedSpec& spec, int head, int64_t t);

/// A KV head's value mean, (D); zeros where values are not centred.
std::vector<double> value_mean(const PackedSpec& spec, int head);

/// Whether it has a mean or centres.
inline bool is_centred(const LinearCode& code) {
  return !code.mean.empty() || !code.centres.empty();
}

/// The form of a code that pages hold: without its fallback. A code with a mean or centres gets
/// LinearCode::mean_flag instead. Attention sinks and delimiters are near zero and far from the mean, so they
/// would have the largest error if it were subtracted. Centres take up the mean, which is then empty, and are
/// rounded to fp16.
LinearCode paged(LinearCode code);

/// The z of a key or value that goes into a page: with mean or centre subtracted, or left in where z is
/// shorter so.
struct PagedVector {
  std::vector<double> z;
  bool keeps_mean = false;
  int centre = 0;  // its number, where there are centres
};
/// x (D); mean (D), that of its position.
PagedVector paged_vector(const LinearCode& code, const float* x, const std::vector<double>& mean);
/// The same for a value with centres; rule: of this code.
PagedVector paged_value(const LinearCode& code, const CentreRule& rule, const float* x);

/// Those of the KV heads' values (H); none where they have no centres.
std::vector<CentreRule> centre_rules(const PackedSpec& spec);

/// What to add to a KV head's decoded value in a page, (D): its mean, or the centre whose number is at
/// `centres` (bytes of its block's positions) where values have centres. Numbers that are none stand for
/// zero.
std::vector<double> value_offset(const PackedSpec& spec, int head, const uint8_t* centres, int position);

/// The byte that stands for a centroid c, where 127 stands for `largest`.
int byte_centroid(float c, float largest);

/// The centroids that a group's codes in pages stand for. Rounding to bytes adds 0.07 % to the distortion at
/// 3 bits and 0.4 % at 4.
std::vector<double> cache_centroids(const LinearCode::Group& group);

/// Where the blocks of the KV heads lie in a page.
struct PageShape {
  std::vector<BlockShape> blocks;  // (H)
  std::vector<int> offsets;        // (H) bytes from the start of the page
  int bytes = 0;                   // of a page: 64 positions, all KV heads
};
PageShape page_shape(const PackedSpec& spec);

/// The CPU implementation of the cache of scalar codes, in double precision except for what is stored: codes
/// and fp16 norms.
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
  std::vector<CentreRule> rules_;  // centre_rules()
};

}  // namespace blockgtq
