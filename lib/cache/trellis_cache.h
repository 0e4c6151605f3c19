#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "cache/packed_cache.h"
#include "cache/trellis_page.h"
#include "quant/trellis.h"

namespace blockgtq {

/// Whether keys or values have trellis codes.
bool has_trellis(const PackedSpec& spec);

/// Why trellis pages (cache/trellis_page.h) cannot hold these codes; empty where they can. In every head
/// keys, and values, must be one group of all D coordinates in trellis codes, of the same bits in all heads.
std::string without_trellis_pages(const PackedSpec& spec);
/// Throws Error where there is such a reason.
void require_trellis_pages(const PackedSpec& spec);

/// The table of a trellis group as pages know it: bytes, where 127 stands for the largest. The search uses
/// them too. On normal numbers this adds nothing to the distortion at 2 bits, 0.03 % at 3 and 0.2 % at 4.
struct TrellisBytes {
  std::array<int8_t, kTrellisStates> bytes{};
  double unit = 0;  // the value of byte 1
  explicit TrellisBytes(const LinearCode::Group& group);
  TrellisTable table() const;
};

/// The CPU implementation of the cache of trellis codes, in double precision except for what is stored and
/// for the search.
class TrellisCache final : public LayerCache {
 public:
  explicit TrellisCache(PackedSpec spec);
  const PackedSpec& spec() const override { return spec_; }
  int key_bits() const { return spec_.key[0].groups[0].bits; }
  int value_bits() const { return spec_.value[0].groups[0].bits; }
  int block_bytes() const {
    return trellis_block_bytes(spec_.layout.head_dim, key_bits(), value_bits(), spec_.n_centres() > 0);
  }
  int page_bytes() const override { return spec_.n_kv_heads() * block_bytes(); }  // blocks side by side
  void write(int64_t t, const float* k, const float* v, uint8_t* page) const override;
  void read(int64_t t, const uint8_t* page, double* k, double* v) const override;
  using LayerCache::read;

 private:
  PackedSpec spec_;
  std::vector<CentreRule> rules_;  // centre_rules()
};

}  // namespace blockgtq
