#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "base/page.h"

namespace blockgtq {

/// What a budget counts. nominal: bits times coordinates, as published. packed: the bytes of a key in a
/// stream of keys, each padded to a byte. page: the key's share of a page of a paged cache.
enum class CostKind { nominal, packed, page };
/// Exit::usage for any other name.
CostKind parse_cost(const std::string& name);
const char* name(CostKind kind);

/// How many fp16 norms a key has: one per group of blocks, or one in all.
enum class NormKind { group, key };
/// Exit::usage for any other name.
NormKind parse_norms(const std::string& name);
const char* name(NormKind norms);

inline constexpr int kPageAlignment = 16;  // bytes

/// The cost of one key of one KV head. Allocators count in block bits: one bit for both coordinates of a
/// block, a quarter of a byte per token. A page of 64 tokens takes 16 bytes per block bit and 128 per norm,
/// so its alignment never costs anything. A packed key is rounded up to 4 block bits.
struct Cost {
  CostKind kind = CostKind::nominal;
  NormKind norms = NormKind::group;

  /// Bytes per token; bits (B), one width per block.
  double bytes(std::span<const uint8_t> bits) const;

  int per_group() const;  // block bits for opening a group: its norm
  int per_key() const;    // block bits of a key before its first code bit
  int step() const;       // costs are rounded up to a multiple of this
  /// The block bits that `bytes` per token pay for, norms included; a multiple of step().
  int64_t block_bits(double bytes) const;
};

}  // namespace blockgtq
