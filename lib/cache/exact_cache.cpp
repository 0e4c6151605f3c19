#include "cache/exact_cache.h"

#include "base/error.h"
#include "base/float16.h"
#include "cache/read_positions.h"

namespace blockgtq {

ExactCache::ExactCache(int n_kv_heads, int dim) : n_kv_heads_(n_kv_heads), dim_(dim) {
  check(n_kv_heads > 0 && dim > 0 && dim % 16 == 0, "ExactCache: head dimension");
}

void ExactCache::write(int64_t t, const float* k, const float* v, uint8_t* page) const {
  const int position = int(t % kPagePositions);
  for (int h = 0; h < n_kv_heads_; ++h) {
    uint8_t* block = page + int64_t(h) * exact_block_bytes(dim_);
    const auto put = [&](int place, float x) {
      const uint16_t bits = to_half(x);
      block[2 * place] = uint8_t(bits);
      block[2 * place + 1] = uint8_t(bits >> 8);
    };
    for (int d = 0; d < dim_; ++d) {
      put(exact_key_place(dim_, position, d), k[h * dim_ + d]);
      put(exact_value_place(dim_, position, d), v[h * dim_ + d]);
    }
  }
}

void ExactCache::read(int64_t t, const uint8_t* page, double* k, double* v) const {
  const int position = int(t % kPagePositions);
  for (int h = 0; h < n_kv_heads_; ++h) {
    const uint8_t* block = page + int64_t(h) * exact_block_bytes(dim_);
    const auto get = [&](int place) {
      return double(from_half(uint16_t(block[2 * place] | block[2 * place + 1] << 8)));
    };
    for (int d = 0; d < dim_; ++d) {
      k[h * dim_ + d] = get(exact_key_place(dim_, position, d));
      v[h * dim_ + d] = get(exact_value_place(dim_, position, d));
    }
  }
}

PlainPositions ExactCache::read(std::span<const uint8_t* const> pages, int64_t length) const {
  return read_positions(n_kv_heads_, dim_, pages, 0, length,
                        [&](int64_t t, const uint8_t* page, double* k, double* v) { read(t, page, k, v); });
}

}  // namespace blockgtq
