// Sequences in pages that lie in any order, for the tests of attention over a cache.
#pragma once
#include <cmath>

#include "cache/packed_cache.h"
#include "device_arrays.h"

namespace blockgtq::test {

// fp16 in the products' operands (2.1e-4 root mean square each of q, centroid, norm times centroid, weight):
// a logit is off by 3.6e-4 of its standard deviation, which is 2 in random_pages(), and a weight by as much
// of itself. That makes 8e-4 of the output; the bound is what the cache promises.
inline constexpr double kAttentionBound = 2e-3;

/// Sequences of random lengths in pages that lie in any order.
struct Sequences {
  std::vector<int32_t> lengths, table;  // (B), (B, stride)
  int64_t stride = 0, n_pages = 0;
};
inline Sequences make_sequences(const std::vector<int32_t>& lengths, Random& random) {
  Sequences s;
  s.lengths = lengths;
  for (const int32_t n : lengths)
    s.stride = std::max<int64_t>(s.stride, (n + kPagePositions - 1) / kPagePositions);
  s.stride += 2;
  s.n_pages = int64_t(lengths.size()) * s.stride + 3;
  std::vector<int32_t> order(s.n_pages);
  for (int64_t i = 0; i < s.n_pages; ++i) order[i] = int32_t(i);
  std::shuffle(order.begin(), order.end(), random.engine);
  s.table.assign(order.begin(), order.begin() + int64_t(lengths.size()) * s.stride);
  return s;
}

/// |x| of a vector whose groups' norms are all 1.
inline double unit_length(const LinearCode& code) {
  const int n = code.n_coords();
  double square = 0;
  int first = 0;
  for (const LinearCode::Group& g : code.groups) {
    for (int j = first; j < first + g.d; ++j)
      for (int d = 0; d < code.dim; ++d)
        square += std::pow(code.backward[size_t(d) * n + j], 2) / (code.one_norm ? n : g.d);
    first += g.d;
  }
  return std::sqrt(square);
}

/// A norm's bytes. flag: a third of them with the sign of a position that keeps its mean.
inline void put_random_norm(uint8_t* to, double typical, bool flag, Random& random) {
  const float norm = float(typical * (0.5 + double(random.below(1000)) / 1000));
  const uint16_t bits = to_half(flag && random.below(3) == 0 ? -norm : norm);
  to[0] = uint8_t(bits);
  to[1] = uint8_t(bits >> 8);
}

/// Pages with random codes and norms, as if they had been written: keys of about 2 sqrt(D), so that logits
/// of normal queries have a standard deviation of 2.
inline std::vector<uint8_t> random_pages(const PackedCache& cache, int64_t n_pages, Random& random) {
  const PageShape& shape = cache.shape();
  std::vector<uint8_t> pages(n_pages * shape.bytes);
  for (uint8_t& b : pages) b = uint8_t(random.engine());
  for (int64_t p = 0; p < n_pages; ++p)
    for (size_t h = 0; h < shape.blocks.size(); ++h) {
      const BlockShape& b = shape.blocks[h];
      uint8_t* block = &pages[p * shape.bytes + shape.offsets[h]];
      const LinearCode& key = cache.spec().key[h];
      const double key_norm = 2 * std::sqrt(double(key.dim)) / unit_length(key);
      for (int at = b.key_norm_offset; at < b.bytes; at += 2) {
        const bool keys = at < b.value_norm_offset;
        const bool first = at - (keys ? b.key_norm_offset : b.value_norm_offset) < 2 * kPagePositions;
        const LinearCode& code = keys ? key : cache.spec().value[h];
        put_random_norm(block + at, keys ? key_norm : 2, first && code.mean_flag, random);
      }
    }
  return pages;
}

/// The pages of sequence b, in order.
inline std::vector<const uint8_t*> pages_of(const Sequences& s, const std::vector<uint8_t>& pages, int64_t b,
                                            int64_t page_bytes) {
  std::vector<const uint8_t*> list;
  for (int64_t p = 0; p < s.stride; ++p) list.push_back(&pages[s.table[b * s.stride + p] * page_bytes]);
  return list;
}

}  // namespace blockgtq::test
