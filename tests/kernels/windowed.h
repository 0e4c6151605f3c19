// Sequences in fp16 pages, and in packed pages with exact ones beside, for the tests of attention over them.
#pragma once
#include "../cache/samples.h"
#include "cache/cuda_cache.h"
#include "cache/exact_cache.h"
#include "kernels/cache/exact_attention.h"
#include "sequences.h"

namespace blockgtq::test {

/// Sequences in fp16, all else NaN.
struct ExactCase {
  ExactCase(int n_kv_heads, int dim, const std::vector<int32_t>& lengths, Random& random)
      : cache(n_kv_heads, dim), sequences(make_sequences(lengths, random)) {
    pages.assign(sequences.n_pages * cache.page_bytes(), 0xff);
    const int64_t width = int64_t(n_kv_heads) * dim;
    for (size_t b = 0; b < lengths.size(); ++b)
      for (int32_t t = 0; t < lengths[b]; ++t)
        write(b, t, random.normal(width).data(), random.normal(width).data());
  }
  void write(int64_t sequence, int64_t t, const float* k, const float* v) {
    cache.write(
        t, k, v,
        &pages[sequences.table[sequence * sequences.stride + t / kPagePositions] * cache.page_bytes()]);
  }
  PlainPositions read(int64_t sequence) const {
    return cache.read(pages_of(sequences, pages, sequence, cache.page_bytes()), sequences.lengths[sequence]);
  }
  ExactCache cache;
  Sequences sequences;
  std::vector<uint8_t> pages;
};

struct OnDevice {
  OnDevice(const Sequences& s, const std::vector<uint8_t>& bytes, const cuda::Stream& stream)
      : pages(to_device(bytes, stream)),
        table(to_device(s.table, stream)),
        lengths(to_device(s.lengths, stream)),
        stride(s.stride) {}
  cuda::PageTable cache() const {
    return {pages.as<uint8_t>(), table.as<int32_t>(), stride, lengths.as<int32_t>()};
  }
  cuda::Buffer pages, table, lengths;
  int64_t stride;
};

inline int64_t longest(const Sequences& s) {
  return *std::max_element(s.lengths.begin(), s.lengths.end());
}

/// Packed pages with an exact window beside them.
struct Windowed {
  Windowed(const CacheCase& c, const ExactWindow& window, const std::vector<int32_t>& lengths, Random& random)
      : c(c),
        window(window),
        packed(packed_spec(c, random.engine())),
        ends(make_sequences(packed_ends(window, lengths), random)),
        pages(random_pages(packed, ends.n_pages, random)),
        exact(c.n_kv_heads, c.dim, exact_lengths(window, lengths), random) {
    const int64_t width = int64_t(c.n_kv_heads) * c.dim, bytes = packed.shape().bytes;
    for (size_t b = 0; b < lengths.size(); ++b) {
      for (int64_t p = 0; p < window.sink / kPagePositions; ++p)  // the sink's place among the packed pages
        std::fill_n(pages.begin() + ends.table[b * ends.stride + p] * bytes, bytes, uint8_t(0xff));
      const int64_t n = exact.sequences.lengths[b];
      const Tokens tokens = random_tokens(packed.spec(), n, random.engine());  // centred as the packed ones
      for (int64_t t = 0; t < n; ++t) exact.write(b, t, &tokens.k[t * width], &tokens.v[t * width]);
    }
  }
  static std::vector<int32_t> packed_ends(const ExactWindow& w, std::vector<int32_t> lengths) {
    for (int32_t& n : lengths) n = int32_t(packed_end(w, n));
    return lengths;
  }
  static std::vector<int32_t> exact_lengths(const ExactWindow& w, std::vector<int32_t> lengths) {
    for (int32_t& n : lengths) n = int32_t(exact_length(w, n));
    return lengths;
  }
  void twin(int64_t sequence, const float* q, double scale, double* out) const {
    PlainPositions x = packed.read(pages_of(ends, pages, sequence, packed.shape().bytes), window.sink,
                                   ends.lengths[sequence]);
    x.append(exact.read(sequence));
    attend(x, c.n_heads, 1, q, scale, out);
  }
  CacheCase c;
  ExactWindow window;
  PackedCache packed;
  Sequences ends;
  std::vector<uint8_t> pages;
  ExactCase exact;
};

}  // namespace blockgtq::test
