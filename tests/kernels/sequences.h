// Sequences in pages that lie in any order, for the tests of attention over a cache.
#pragma once
#include <cmath>

#include "cache/trellis_cache.h"
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

/// 64 norms of a page: where they begin, what they are like where logits of normal queries have a standard
/// deviation of 2 (keys of about 2 sqrt(D)), and whether their signs are flags.
struct NormRow {
  int64_t at = 0;
  double typical = 0;
  bool flag = false;
};
inline std::vector<NormRow> norm_rows(const LayerCache& cache) {
  const PackedSpec& spec = cache.spec();
  const int dim = spec.layout.head_dim;
  const double of_keys = 2 * std::sqrt(double(dim)), of_values = 2;
  std::vector<NormRow> rows;
  if (const auto* trellis = dynamic_cast<const TrellisCache*>(&cache)) {
    for (int64_t h = 0; h < spec.n_kv_heads(); ++h) {
      const int64_t block = h * trellis->block_bytes();
      rows.push_back(
          {block + trellis_code_bytes(dim, trellis->key_bits()), of_keys, spec.key[size_t(h)].mean_flag});
      rows.push_back({block + trellis_side_bytes(dim, trellis->key_bits()) +
                          trellis_code_bytes(dim, trellis->value_bits()),
                      of_values, spec.value[size_t(h)].mean_flag});
    }
    return rows;
  }
  const PageShape shape = page_shape(spec);
  for (size_t h = 0; h < shape.blocks.size(); ++h) {
    const BlockShape& b = shape.blocks[h];
    const int end = b.value_centre_offset > 0 ? b.value_centre_offset : b.bytes;
    for (int at = b.key_norm_offset; at < end; at += 2 * kPagePositions) {
      const bool keys = at < b.value_norm_offset;
      const bool first = at == (keys ? b.key_norm_offset : b.value_norm_offset);
      rows.push_back({shape.offsets[h] + at, keys ? of_keys / unit_length(spec.key[h]) : of_values,
                      first && (keys ? spec.key : spec.value)[h].mean_flag});
    }
  }
  return rows;
}

/// Where the bytes of a head's value centres begin in a page.
inline int64_t centres_at(const LayerCache& cache, int head) {
  if (const auto* trellis = dynamic_cast<const TrellisCache*>(&cache))
    return int64_t(head + 1) * trellis->block_bytes() - kPagePositions;
  const PageShape shape = page_shape(cache.spec());
  return shape.offsets[head] + shape.blocks[head].value_centre_offset;
}

/// Pages with random codes and norms, as if they had been written. Numbers of centres are random, a few of
/// them of none.
inline std::vector<uint8_t> random_pages(const LayerCache& cache, int64_t n_pages, Random& random) {
  const int64_t bytes = cache.page_bytes();
  std::vector<uint8_t> pages(size_t(n_pages * bytes));
  for (uint8_t& b : pages) b = uint8_t(random.engine());
  for (int64_t p = 0; p < n_pages; ++p)
    for (const NormRow& row : norm_rows(cache))
      for (int i = 0; i < kPagePositions; ++i)
        put_random_norm(&pages[size_t(p * bytes + row.at + 2 * i)], row.typical, row.flag, random);
  if (const int n = cache.spec().n_centres(); n > 0)
    for (int64_t p = 0; p < n_pages; ++p)
      for (int h = 0; h < cache.spec().n_kv_heads(); ++h)
        for (int i = 0; i < kPagePositions; ++i)
          if (uint8_t& number = pages[size_t(p * bytes + centres_at(cache, h) + i)]; random.below(50) > 0)
            number = uint8_t(number % n);
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
