#pragma once
#include <cstdint>
#include <span>

#include "cache/attention.h"
#include "cache/exact_page.h"

namespace blockgtq {

/// The CPU implementation of a cache in fp16 (cache/exact_page.h), in double precision except for what is
/// stored.
class ExactCache {
 public:
  ExactCache(int n_kv_heads, int dim);  // dim: a multiple of 16
  int64_t page_bytes() const { return exact_page_bytes(n_kv_heads_, dim_); }

  /// Writes position t into `page`, which holds it; other positions of the page stay. k (H, D) after RoPE, v
  /// (H, D).
  void write(int64_t t, const float* k, const float* v, uint8_t* page) const;

  /// Reads position t. k (H, D), v (H, D).
  void read(int64_t t, const uint8_t* page, double* k, double* v) const;

  /// The first `length` positions of these pages.
  PlainPositions read(std::span<const uint8_t* const> pages, int64_t length) const;

 private:
  int n_kv_heads_, dim_;
};

}  // namespace blockgtq
