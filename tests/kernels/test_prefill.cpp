// A chunk's attention over a packed prefix and itself, against the CPU twin in double precision (lib/cache).
#include <cmath>

#include "../cache/samples.h"
#include "cache/cuda_layer_cache.h"
#include "cache/exact_cache.h"
#include "kernels/cache/packed_prefill.h"
#include "ruled.h"
#include "sequences.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// Codes and norms of positions that nobody has written: every bit set, norms NaN.
void poison_after(const LayerCache& cache, const Sequences& s, std::vector<uint8_t>& pages) {
  const int64_t bytes = cache.page_bytes();
  for (size_t b = 0; b < s.lengths.size(); ++b)
    for (int64_t p = 0; p < s.stride; ++p) {
      const int64_t valid = std::clamp<int64_t>(s.lengths[b] - p * kPagePositions, 0, kPagePositions);
      uint8_t* page = &pages[size_t(s.table[b * s.stride + p] * bytes)];
      if (valid == 0) std::fill_n(page, bytes, uint8_t(0xff));
      for (const NormRow& row : norm_rows(cache))
        for (int64_t t = valid; t < kPagePositions; ++t)
          std::fill_n(page + row.at + 2 * norm_place(int(t)), 2, uint8_t(0xff));
    }
}

/// What lies before a chunk, and how it is computed.
struct PrefixCase {
  std::vector<int32_t> packed;   // lengths; of each sequence, from its first page on
  std::vector<int32_t> exact{};  // positions beside them, or none
  int first_page = 0;
  bool has_layer = true;  // packed pages at all
  Rule rule{};
  cuda::PrefillOptions options{};
};

/// Exact pages of random tokens, all else NaN.
struct ExactSequences {
  ExactSequences(const PackedSpec& spec, const std::vector<int32_t>& lengths, Random& random)
      : cache(spec.n_kv_heads(), spec.layout.head_dim), sequences(make_sequences(lengths, random)) {
    pages.assign(sequences.n_pages * cache.page_bytes(), 0xff);
    const int64_t width = int64_t(spec.n_kv_heads()) * spec.layout.head_dim;
    for (size_t b = 0; b < lengths.size(); ++b) {
      const Tokens tokens = random_tokens(spec, lengths[b], random.engine());  // centred as the packed ones
      for (int64_t t = 0; t < lengths[b]; ++t)
        cache.write(
            t, &tokens.k[t * width], &tokens.v[t * width],
            &pages[sequences.table[int64_t(b) * sequences.stride + t / kPagePositions] * cache.page_bytes()]);
    }
  }
  PlainPositions read(int64_t b) const {
    return cache.read(pages_of(sequences, pages, b, cache.page_bytes()), sequences.lengths[b]);
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
        longest(*std::max_element(s.lengths.begin(), s.lengths.end())),
        stride(s.stride) {}
  cuda::PageTable cache() const {
    return {pages.as<uint8_t>(), table.as<int32_t>(), stride, lengths.as<int32_t>()};
  }
  cuda::Buffer pages, table, lengths;
  int64_t longest, stride;
};

/// Relative errors of the output: of a whole sequence and of a token, the worst of them.
struct Errors {
  double whole = 0, token = 0;
};
Errors prefill_error(const CacheCase& c, const PrefixCase& prefix, int64_t chunk, Random& random) {
  const auto twin = make_layer_cache(packed_spec(c, random.engine()));
  const LayerCache& cache = *twin;
  const cuda::Stream stream;
  const Sequences s = make_sequences(prefix.packed, random);
  std::vector<uint8_t> pages = random_pages(cache, s.n_pages, random);
  poison_after(cache, s, pages);
  const int64_t batch = int64_t(prefix.packed.size()), page_bytes = cache.page_bytes();
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t p = 0; p < prefix.first_page; ++p)
      std::fill_n(pages.begin() + s.table[b * s.stride + p] * page_bytes, page_bytes, uint8_t(0xff));
  const ExactSequences exact(cache.spec(),
                             prefix.exact.empty() ? std::vector<int32_t>(batch, 0) : prefix.exact, random);
  const int64_t q_width = int64_t(c.n_heads) * c.dim, width = int64_t(c.n_kv_heads) * c.dim;
  const auto numbers = [&](int64_t n) { return rounded(random.normal(n), cuda::FloatType::f16); };
  const std::vector<float> q = numbers(batch * chunk * q_width), k = numbers(batch * chunk * width),
                           v = numbers(batch * chunk * width);
  const auto put = [&](const std::vector<float>& x) {
    return to_device(encode(x, cuda::FloatType::f16), stream);
  };
  const OnDevice packed(s, pages, stream), beside(exact.sequences, exact.pages, stream);
  const cuda::Buffer queries = put(q), keys = put(k), values = put(v),
                     out = poisoned(batch * chunk * q_width * 2, stream);
  const auto tables = make_cuda_layer_cache(cache.spec(), packed.longest, stream);
  const cuda::ExactPages exact_pages{beside.cache(), beside.longest};
  cuda::PrefillAttention job;
  if (prefix.has_layer)
    tables->describe(job);
  else
    job.dim = c.dim, job.n_heads = c.n_heads, job.n_kv_heads = c.n_kv_heads;
  job.cache = packed.cache();
  job.first_page = prefix.first_page;
  if (!prefix.exact.empty()) job.exact = &exact_pages;
  job.longest = packed.longest;
  job.batch = int(batch);
  job.tokens = chunk;
  job.q = queries.as();
  job.k = keys.as();
  job.v = values.as();
  job.out = out.as();
  job.scale = 1 / std::sqrt(float(c.dim));
  const std::vector<float> sinks = random.normal(c.n_heads, 3);
  const cuda::Buffer on_sinks = to_device(sinks, stream);
  job.rule.window = prefix.rule.window;
  job.rule.softcap = prefix.rule.softcap;
  if (prefix.rule.sinks) job.rule.sinks = on_sinks.as<float>();
  const cuda::Buffer scratch = poisoned(cuda::prefill_scratch_bytes(job, prefix.options), stream);
  cuda::prefill_attention(job, scratch.as(), stream, prefix.options);
  const std::vector<float> got =
      decode(to_host<unsigned char>(out.as(), batch * chunk * q_width * 2, stream), cuda::FloatType::f16);
  REQUIRE(to_host<uint8_t>(packed.pages.as(), int64_t(pages.size()), stream) == pages);
  REQUIRE(to_host<uint8_t>(beside.pages.as(), int64_t(exact.pages.size()), stream) == exact.pages);

  Errors worst;
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<double> want(chunk * q_width);
    const int64_t first = prefix.first_page * kPagePositions,
                  end = prefix.has_layer ? std::max<int64_t>(prefix.packed[b], first) : first;
    Held held{cache.read(pages_of(s, pages, b, page_bytes), first, end), {}};
    PlainPositions& x = held.x;
    x.append(exact.read(b));
    x.k.insert(x.k.end(), k.begin() + b * chunk * width, k.begin() + (b + 1) * chunk * width);
    x.v.insert(x.v.end(), v.begin() + b * chunk * width, v.begin() + (b + 1) * chunk * width);
    if (prefix.rule.plain()) {
      attend(x, c.n_heads, chunk, &q[b * chunk * q_width], job.scale, want.data());
    } else {
      const int64_t n_exact = prefix.exact.empty() ? 0 : prefix.exact[b];
      for (int64_t t = first; t < end; ++t) held.at.push_back(t);
      for (int64_t i = 0; i < n_exact; ++i) held.at.push_back(i < first ? i : end + i - first);
      const int64_t begin = end > first ? end + std::max<int64_t>(n_exact - first, 0) : n_exact;
      for (int64_t i = 0; i < chunk; ++i) held.at.push_back(begin + i);
      for (int64_t i = 0; i < chunk; ++i) {
        const std::vector<double> token = ruled(held, begin + i + 1, c.n_heads, &q[(b * chunk + i) * q_width],
                                                job.scale, prefix.rule, sinks);
        std::copy(token.begin(), token.end(), want.begin() + i * q_width);
      }
    }
    const std::vector<float> of_sequence(got.begin() + b * chunk * q_width,
                                         got.begin() + (b + 1) * chunk * q_width);
    worst.whole = worse(worst.whole, distance(of_sequence, want));
    for (int64_t i = 0; i < chunk; ++i)
      worst.token = worse(
          worst.token,
          distance(
              std::vector<float>(of_sequence.begin() + i * q_width, of_sequence.begin() + (i + 1) * q_width),
              std::vector<double>(want.begin() + i * q_width, want.begin() + (i + 1) * q_width)));
  }
  return worst;
}

// fp16 where numbers enter a product (B, key, value, weight; norm times centroid of keys with several norms)
// and in the output: 2e-4 root mean square each, which in a logit add up to some 3e-4 |q| |k| / D. Keys in
// groups with a norm each are as long as 5 sqrt(D) here: 1.5e-3 of a weight, the worst token of many four
// times that where few positions carry it. A position too many or too few of n makes 1 / sqrt(n) of a token's
// output, 0.03 of 1000. The bound of the whole is what the cache promises; a chunk of one token is a token.
void good(const CacheCase& c, const PrefixCase& prefix, int64_t chunk, Random& random) {
  for (const bool any_device : {false, true}) {
    PrefixCase by = prefix;
    by.options.any_device = any_device;
    const Errors errors = prefill_error(c, by, chunk, random);
    INFO((any_device ? "the kernel of any device" : "this device's kernel"));
    if (chunk > 1) CHECK(errors.whole < 2e-3);
    CHECK(errors.token < 8e-3);
  }
}
void good(const CacheCase& c, const std::vector<int32_t>& packed, int64_t chunk, Random& random) {
  good(c, PrefixCase{packed}, chunk, random);
}

}  // namespace

TEST_CASE("prefill attention over packed pages", "[kernels][packed]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  SECTION("chunks and prefixes") {
    for (const int64_t chunk : {1, 16, 65, 200})
      for (const int32_t prefix : {0, 1, 63, 64, 65, 1000}) {
        INFO("chunk " << chunk << ", prefix " << prefix);
        good({128, 4, 2}, {prefix}, chunk, random);
        good({64, 3, 1, 4, 3, 3, false, true}, {prefix}, chunk, random);
      }
  }
  SECTION("groups of query heads") {
    for (const int group : {1, 2, 4, 7, 8, 16}) {
      INFO("group " << group);
      good({128, 2 * group, 2}, {300}, 37, random);
      good({64, 2 * group, 2, 5, 3, 3, true, true}, {300}, 37, random);
    }
  }
  SECTION("head dimensions and numbers of groups") {
    for (const int dim : {64, 80, 96, 128, 256})
      for (const int groups : {1, 3, 8}) {
        INFO("dimension " << dim << ", groups " << groups);
        good({dim, 4, 2, groups, 3, 4, false}, {221}, 70, random);
        good({dim, 4, 2, groups, 3, 4, true, true, groups > 1 ? 16 : 0}, {221}, 70, random);
      }
  }
  SECTION("every width") {
    for (int bits = 1; bits <= 8; ++bits) {
      INFO("bits " << bits);
      good({128, 4, 2, 1, bits, bits}, {200}, 33, random);
      good({96, 4, 2, 1, bits, 9 - bits}, {200}, 33, random);
    }
    good({256, 4, 2, 1, 8, 8}, {200}, 33, random);
  }
  SECTION("several sequences, one without a prefix") {
    good({128, 16, 4}, {500, 0, 129}, 50, random);
    good({128, 8, 2, 6, 3, 3, false}, {1, 333, 64}, 100, random);
  }
}

TEST_CASE("prefill attention over trellis pages", "[kernels][trellis]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  SECTION("chunks and prefixes") {
    for (const int64_t chunk : {1, 65, 200})
      for (const int32_t prefix : {0, 1, 63, 64, 65, 1000}) {
        INFO("chunk " << chunk << ", prefix " << prefix);
        good(trellis_case(128, 4, 2, 3, 3), {prefix}, chunk, random);
        good(trellis_case(64, 3, 1, 2, 4, true), {prefix}, chunk, random);
      }
  }
  SECTION("widths of keys and values") {
    for (const int dim : {64, 128})
      for (int bits = 2; bits <= 4; ++bits)
        for (int value_bits = 2; value_bits <= 4; ++value_bits) {
          INFO("dimension " << dim << ", bits " << bits << " and " << value_bits);
          good(trellis_case(dim, 4, 2, bits, value_bits), {221}, 70, random);
          good(trellis_case(dim, 4, 2, bits, value_bits, true), {130}, 33, random);
        }
  }
  SECTION("several sequences, beside exact pages, in pieces") {
    PrefixCase prefix{{64, 64, 1000, 193, 0}, {1, 64, 200, 0, 0}, 1};
    good(trellis_case(128, 16, 4, 3, 2), prefix, 33, random);
    prefix.options.most_bytes = 5 * 4 * 4 * 64 * 64 * 4;
    good(trellis_case(64, 8, 4, 4, 3, true), prefix, 70, random);
  }
}

TEST_CASE("prefill attention over values with centres", "[kernels][centres]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  for (const int centres : {2, 16, 64})
    for (const int dim : {64, 80, 96, 128, 256})
      for (const bool centred : {false, true}) {
        INFO("dimension " << dim << ", centres " << centres);
        good({dim, 4, 2, 3, 3, 4, true, centred, 0, false, centres}, {221}, 70, random);
        good({dim, 4, 2, 1, 3, 3, true, centred, 0, false, centres},
             PrefixCase{{64, 64, 500, 193, 0}, {1, 64, 200, 0, 0}, 1}, 33, random);
        if (dim == 64 || dim == 128)
          good(trellis_case(dim, 4, 2, 3, 2, centred, centres), {221, 0, 1000}, 70, random);
      }
}

TEST_CASE("prefill attention over packed pages between exact ones", "[kernels][packed][exact]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  SECTION("chunks and windows") {
    for (const int64_t chunk : {1, 7, 64, 100, 512})
      for (const int32_t recent : {0, 1, 64, 190}) {
        INFO("chunk " << chunk << ", recent " << recent);
        good({128, 8, 2}, PrefixCase{{700}, {64 + recent}, 1}, chunk, random);
        good({64, 6, 2, 4, 3, 3, false, true}, PrefixCase{{321}, {128 + recent}, 2}, chunk, random);
      }
  }
  SECTION("head dimensions") {
    for (const int dim : {64, 80, 96, 128, 256}) {
      INFO("dimension " << dim);
      good({dim, 4, 2, 3, 3, 4, true, true, 16}, PrefixCase{{500}, {133}, 1}, 77, random);
    }
  }
  SECTION("several sequences, some of them within the window") {
    good({128, 16, 4}, PrefixCase{{64, 64, 1000, 193, 0}, {1, 64, 200, 0, 0}, 1}, 33, random);
    good({256, 4, 1, 1, 4, 2}, PrefixCase{{64, 130}, {17, 128}, 1}, 65, random);
  }
  SECTION("nothing packed") {
    for (const int dim : {64, 80, 96, 128, 256}) {
      INFO("dimension " << dim);
      good({dim, 14, 2}, PrefixCase{{0, 0, 0}, {999, 0, 64}, 0, false}, 45, random);
    }
    good({128, 4, 4}, PrefixCase{{0}, {}, 0, false}, 300, random);
  }
}

TEST_CASE("prefill attention in pieces", "[kernels][packed]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  SECTION("a prefix that wants more memory than it may have") {
    for (const int dim : {64, 80, 96, 128, 256})
      for (const int64_t tiles : {0, 4, 6}) {
        INFO("dimension " << dim << ", tiles at a time " << tiles);
        PrefixCase prefix{{1000, 0, 321, 130}, {65, 0, 1, 64}, 1};
        prefix.options.most_bytes = 4 * 2 * tiles * 64 * dim * 4;  // fewer where tiles have gaps
        good({dim, 4, 2, 3, 3, 3, true, true}, prefix, 70, random);
      }
  }
  SECTION("parts of few rows, all of the prefix at a time and not") {
    for (const int64_t most_bytes : {int64_t(256) << 20, int64_t(4) << 20})
      for (const int dim : {64, 128, 256}) {
        INFO("dimension " << dim << ", " << most_bytes << " bytes");
        PrefixCase prefix{{9001}, {70}, 1};
        prefix.options.most_bytes = most_bytes;
        good({dim, 8, 2}, prefix, 9, random);
        prefix.packed = {9001, 64, 3000}, prefix.exact = {70, 1, 0};
        good({dim, 14, 2, 4, 3, 3, false, true}, prefix, 20, random);
      }
  }
}

TEST_CASE("prefill attention with as many rows as fill the device", "[kernels][packed]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  // Sequences x 2 heads x 4 blocks of 256 rows, or 8 of 128: with 16 the largest blocks on any device of up
  // to 255 multiprocessors, with 6 the next smaller from 96 to 191
  for (const int batch : {16, 6})
    for (const int dim : {64, 128, 256}) {
      INFO("batch " << batch << ", dimension " << dim);
      good({dim, 8, 2}, std::vector<int32_t>(batch, 70), 250, random);
      good({dim, 8, 2, 4, 3, 3, true, true}, std::vector<int32_t>(batch, 70), 250, random);
    }
}

TEST_CASE("prefill attention with windows, softcaps and sinks", "[kernels][packed][rules]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  const Rule rules[] = {{1}, {17}, {64}, {129}, {500}, {100000}, {0, 2.5f}, {0, 0, true}, {100, 2.5f, true}};
  for (const Rule& rule : rules) {
    INFO("window " << rule.window << ", softcap " << rule.softcap << ", sinks " << rule.sinks);
    const auto with_rule = [&](PrefixCase prefix) {
      prefix.rule = rule;
      return prefix;
    };
    for (const int64_t chunk : {1, 63, 64, 65, 300}) {
      INFO("chunk " << chunk);
      for (const int32_t n : {0, 1, 64, 700}) {
        INFO("prefix " << n);
        good({128, 8, 2}, with_rule({{0}, {n}, 0, false}), chunk, random);  // fp16 pages alone
        good({64, 4, 4}, with_rule({{n}}), chunk, random);
      }
      for (const int32_t recent : {0, 1, 64, 190}) {
        INFO("recent " << recent);
        good({128, 8, 2}, with_rule({{704}, {64 + recent}, 1}), chunk, random);
        good({64, 6, 2, 4, 3, 3, false, true}, with_rule({{320}, {128 + recent}, 2}), chunk, random);
      }
    }
    for (const int dim : {64, 80, 96, 128, 256}) {
      INFO("dimension " << dim);
      good({dim, 14, 2}, with_rule({{0, 0, 0}, {999, 0, 64}, 0, false}), 45, random);
      good({dim, 4, 2, 3, 3, 4, true, true, 16}, with_rule({{512, 64}, {133, 20}, 1}), 77, random);
      PrefixCase in_pieces = with_rule({{1024, 0, 320, 128}, {65, 0, 64, 64}, 1});
      in_pieces.options.most_bytes = 4 * 2 * 4 * 64 * dim * 4;
      good({dim, 4, 2, 3, 3, 3, true, true}, in_pieces, 70, random);
    }
    // parts of few rows
    good({128, 8, 2}, with_rule({{9024}, {70}, 1}), 9, random);
    good({64, 8, 2}, with_rule({{0}, {9001}, 0, false}), 9, random);
  }
}
