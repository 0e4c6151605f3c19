#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "base/page.h"

namespace blockgtq {

/// What a budget counts: bits times coordinates as published; what a key takes in a stream of keys, each
/// padded to a byte; or its share of a page of a paged cache.
enum class CostKind { nominal, packed, page };
CostKind parse_cost(const std::string& name);
const char* name(CostKind kind);

/// fp16 norms of a key: one per group of blocks, or one in all.
enum class NormKind { group, key };
NormKind parse_norms(const std::string& name);
const char* name(NormKind norms);

inline constexpr int kPageAlignment = 16;  // bytes

/// The cost of one KV head's key. Allocators count in block bits: one bit for both coordinates of a block, a
/// quarter of a byte per token. A page of 64 tokens is 16 bytes per block bit and 128 per norm, so its
/// alignment never costs anything; a packed key is rounded up to 4 block bits.
struct Cost {
  CostKind kind = CostKind::nominal;
  NormKind norms = NormKind::group;

  /// Bytes per token; bits (B), one width per block.
  double bytes(std::span<const uint8_t> bits) const;

  int per_group() const;  // block bits that opening a group takes
  int per_key() const;    // block bits that a key takes before its first bit
  int step() const;       // block bits that are charged together
  /// Block bits that `bytes` per token pay for, norms among them; a multiple of step().
  int64_t block_bits(double bytes) const;
};

}  // namespace blockgtq
