// Keys and values near zero keep their mean in pages: which ones, and what comes back of them.
#include <cmath>

#include "cache/mean_rule.h"
#include "cache/packed_cache.h"
#include "cache/trellis_cache.h"
#include "catch.h"
#include "quant/linear_quantizer.h"
#include "samples.h"

using namespace blockgtq;
using test::CacheCase;

namespace {

constexpr int kTokens = kPagePositions;

/// Of pages of scalar codes, where the first norms of a head lie.
int norms_at(const PackedCache& cache, int head, bool keys) {
  const BlockShape& block = cache.shape().blocks[head];
  return cache.shape().offsets[head] + (keys ? block.key_norm_offset : block.value_norm_offset);
}
int norms_at(const TrellisCache& cache, int head, bool keys) {
  const int dim = cache.spec().layout.head_dim, of_keys = trellis_side_bytes(dim, cache.key_bits());
  return head * cache.block_bytes() + (keys ? trellis_code_bytes(dim, cache.key_bits())
                                            : of_keys + trellis_code_bytes(dim, cache.value_bits()));
}
int page_bytes(const PackedCache& cache) {
  return cache.shape().bytes;
}
int page_bytes(const TrellisCache& cache) {
  return cache.page_bytes();
}

PackedSpec without_means(PackedSpec spec) {
  for (auto* side : {&spec.key, &spec.value})
    for (LinearCode& code : *side) code.mean.clear(), code = paged(code);
  return spec;
}

/// A page of positions 0 to 63 and what it gives back.
template <class Cache>
struct Written {
  Written(const PackedSpec& spec, const test::Tokens& tokens)
      : cache(spec), page(size_t(page_bytes(cache))), k(tokens.k.size()), v(tokens.v.size()) {
    const size_t width = tokens.k.size() / kTokens;
    for (int t = 0; t < kTokens; ++t) {
      cache.write(t, &tokens.k[t * width], &tokens.v[t * width], page.data());
      cache.read(t, page.data(), &k[t * width], &v[t * width]);
    }
  }
  bool keeps_mean(int head, bool keys, int t) const {
    return page[size_t(norms_at(cache, head, keys) + 2 * norm_place(t) + 1)] & 0x80;
  }
  Cache cache;
  std::vector<uint8_t> page;
  std::vector<double> k, v;
};

/// Holds the flags against lengths of z, what flagged vectors come back as against a code without a mean, and
/// their errors against those of a code that always takes it off.
template <class Cache>
void check_flags(const CacheCase& c) {
  const PackedSpec spec = test::packed_spec(c, 21);
  const test::Tokens tokens = test::random_tokens(spec, kTokens, 22);
  const Written<Cache> with(spec, tokens), without(without_means(spec), tokens);
  REQUIRE(test::near_ties(spec, tokens) == 0);
  for (const bool keys : {true, false})
    for (int h = 0; h < c.n_kv_heads; ++h) {
      const LinearCode& code = (keys ? spec.key : spec.value)[h];
      const MeanRule rule = keys ? key_mean_rule(code, spec.layout) : value_mean_rule(code);
      const PackedSpec& plain_spec = without.cache.spec();
      const LinearQuantizer quantizer((keys ? plain_spec.key : plain_spec.value)[h]);
      std::vector<uint8_t> bytes(quantizer.code_bytes());
      int flagged = 0;
      double error = 0, error_less = 0;  // with the mean left in, and taken off
      for (int t = 0; t < kTokens; ++t) {
        const size_t at = size_t(t * c.n_kv_heads + h) * c.dim;
        const float* const x = keys ? &tokens.k[at] : &tokens.v[at];
        const std::vector<double> mean = keys ? key_mean(spec, h, t) : value_mean(spec, h);
        const bool shorter = test::coded_square(code, x, mean, 0) < test::coded_square(code, x, mean, 1);
        REQUIRE(with.keeps_mean(h, keys, t) == shorter);
        CHECK_FALSE(without.keeps_mean(h, keys, t));
        double pull = 0;
        for (int d = 0; d < c.dim; ++d) pull += double(rule.weights[d]) * (keys ? mean[d] : 1.0) * x[d];
        REQUIRE((pull < rule.limit) == shorter);
        if (!shorter) continue;
        ++flagged;
        const double *const got = keys ? &with.k[at] : &with.v[at], *const plain = keys ? &without.k[at]
                                                                                        : &without.v[at];
        REQUIRE(std::equal(got, got + c.dim, plain));
        std::vector<float> less(c.dim);
        for (int d = 0; d < c.dim; ++d) less[d] = float(x[d] - mean[d]);
        quantizer.encode(less.data(), 1, bytes.data());
        std::vector<float> back(c.dim);
        quantizer.decode(bytes.data(), 1, back.data());
        for (int d = 0; d < c.dim; ++d) {
          error += std::pow(got[d] - x[d], 2);
          error_less += std::pow(back[d] - less[d], 2);
        }
      }
      CHECK(flagged > kTokens / 6);
      CHECK(flagged < kTokens / 2);
      CHECK(error < error_less / 4);
    }
}

}  // namespace

TEST_CASE("mean flag: what is nearer to zero than to the mean keeps it", "[cache]") {
  for (const CacheCase& c :
       {CacheCase{128, 2, 2, 1, 3, 3, true, true}, CacheCase{64, 2, 2, 4, 3, 2, false, true},
        CacheCase{80, 2, 2, 3, 3, 4, true, true}, CacheCase{96, 2, 2, 3, 3, 4, true, true, 16}}) {
    INFO("dimension " << c.dim << ", groups " << c.groups << ", dropped " << c.dropped);
    check_flags<PackedCache>(c);
  }
}

TEST_CASE("mean flag: trellis pages", "[cache][trellis]") {
  for (const int dim : {64, 128}) check_flags<TrellisCache>(test::trellis_case(dim, 2, 2, 3, 2, true));
}

TEST_CASE("mean flag: a zero vector stays zero", "[cache]") {
  const PackedSpec spec = test::packed_spec({64, 2, 2, 1, 3, 3, true, true}, 3),
                   trellis = test::packed_spec(test::trellis_case(64, 2, 2, 3, 3, true), 3);
  const test::Tokens zeros{std::vector<float>(kTokens * 128), std::vector<float>(kTokens * 128)};
  const auto check_zeros = [&](const auto& written) {
    for (int t = 0; t < kTokens; ++t)
      CHECK((written.keeps_mean(0, true, t) && written.keeps_mean(1, false, t)));
    for (const auto* side : {&written.k, &written.v})
      for (const double x : *side) REQUIRE(x == 0);
  };
  check_zeros(Written<PackedCache>(spec, zeros));
  check_zeros(Written<TrellisCache>(trellis, zeros));
}

TEST_CASE("mean flag: codes that it is not made for", "[cache]") {
  PackedSpec spec = test::packed_spec({64, 2, 1, 1, 3, 3, true, true}, 5);
  LinearCode key = spec.key[0];
  for (int j = 0; j < key.dim; ++j) key.forward[size_t(j) * key.dim + 6] *= 1.01f;
  CHECK_THROWS_AS(key_mean_rule(key, spec.layout), std::logic_error);  // a block of two weights
  key = spec.key[0];
  key.forward[5] += 0.1f;
  CHECK_THROWS_AS(key_mean_rule(key, spec.layout), std::logic_error);  // not diagonal
  CHECK_NOTHROW(value_mean_rule(key));
  spec.value[0].mean_flag = false;
  CHECK_THROWS_AS(PackedCache(spec), std::logic_error);
  spec = test::packed_spec(test::trellis_case(64, 2, 1, 3, 3, true), 5);
  spec.value[0].mean_flag = false;
  CHECK_THROWS_AS(TrellisCache(spec), std::logic_error);
}
