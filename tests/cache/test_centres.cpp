// Values with centres in pages: which centre a value gets, and what comes back of it.
#include <cmath>

#include "cache/centre_rule.h"
#include "cache/layer_cache.h"
#include "cache/packed_cache.h"
#include "cache/trellis_cache.h"
#include "catch.h"
#include "quant/linear_quantizer.h"
#include "samples.h"

using namespace blockgtq;
using test::CacheCase;

namespace {

constexpr int kTokens = kPagePositions;

std::vector<CacheCase> cases() {
  return {CacheCase{128, 2, 2, 1, 3, 3, true, true, 0, false, 64},
          CacheCase{80, 2, 2, 3, 3, 4, true, true, 0, false, 2},
          CacheCase{256, 2, 2, 4, 3, 2, false, false, 0, false, 256},
          test::trellis_case(64, 2, 2, 3, 2, true, 16), test::trellis_case(128, 2, 2, 2, 4, false, 256)};
}

/// Where a head's value norms and centres lie in a page.
struct Places {
  int64_t norms, centres;
};
Places places(const LayerCache& cache, int head) {
  const PackedSpec& spec = cache.spec();
  if (const auto* trellis = dynamic_cast<const TrellisCache*>(&cache)) {
    const int64_t end = int64_t(head + 1) * trellis->block_bytes();
    return {end - 3 * kPagePositions, end - kPagePositions};
  }
  const PageShape shape = page_shape(spec);
  return {shape.offsets[head] + shape.blocks[head].value_norm_offset,
          shape.offsets[head] + shape.blocks[head].value_centre_offset};
}

double squared_distance(const float* x, const float* centre, int dim) {
  double sum = 0;
  for (int d = 0; d < dim; ++d) sum += std::pow(double(x[d]) - (centre ? centre[d] : 0), 2);
  return sum;
}

}  // namespace

TEST_CASE("value centres: every position has a byte, a lane's lie side by side", "[cache][centres]") {
  std::vector<int> used(kPagePositions);
  for (int p = 0; p < kPagePositions; ++p) {
    ++used[size_t(centre_place(p))];
    CHECK(centre_place(p) / 16 == p % 8 / 2);
  }
  CHECK(std::all_of(used.begin(), used.end(), [](int n) { return n == 1; }));
}

TEST_CASE("value centres: the nearest is taken, or none where zero is nearer", "[cache][centres]") {
  for (const CacheCase& c : cases()) {
    CAPTURE(c.dim, c.centres, c.trellis);
    const PackedSpec spec = test::packed_spec(c, 21);
    const test::Tokens tokens = test::random_tokens(spec, kTokens, 22);
    const auto cache = make_layer_cache(spec);
    std::vector<uint8_t> page(size_t(cache->page_bytes()));
    const size_t width = size_t(c.n_kv_heads) * c.dim;
    std::vector<double> k(width), v(width);
    double error = 0, left = 0;
    int kept = 0;
    for (int t = 0; t < kTokens; ++t) {
      cache->write(t, &tokens.k[t * width], &tokens.v[t * width], page.data());
      cache->read(t, page.data(), k.data(), v.data());
      for (int h = 0; h < c.n_kv_heads; ++h) {
        const float* const x = &tokens.v[t * width + size_t(h) * c.dim];
        const Places at = places(*cache, h);
        const int number = page[size_t(at.centres + centre_place(t))];
        const bool keeps = page[size_t(at.norms + 2 * norm_place(t) + 1)] & 0x80;
        REQUIRE(number < c.centres);
        const float* const centres = spec.value[h].centres.data();
        const double nearest = squared_distance(x, centres + number * c.dim, c.dim),
                     whole = squared_distance(x, nullptr, c.dim);
        // The rule is float32: D roundings of 2^-24 of sums as large as the squares.
        const double rounding = 0x1p-24 * c.dim * (nearest + whole);
        for (int i = 0; i < c.centres; ++i)
          REQUIRE(squared_distance(x, centres + i * c.dim, c.dim) >= nearest - rounding);
        if (std::abs(whole - nearest) > rounding) REQUIRE(keeps == (whole < nearest));
        kept += keeps;
        left += std::min(whole, nearest);
        for (int d = 0; d < c.dim; ++d) error += std::pow(v[size_t(h * c.dim + d)] - x[d], 2);
      }
    }
    CHECK(kept > kTokens * c.n_kv_heads / 6);
    CHECK(kept < kTokens * c.n_kv_heads / 2);
    // Errors of the codes on normal numbers at 2, 3 and 4 bits: scalar, trellis. A sample of 10^4 is within a
    // tenth.
    const double distortion[2][3] = {{0.1175, 0.0345, 0.0098}, {0.0764, 0.0199, 0.0054}};
    CHECK(error / left < 1.1 * distortion[c.trellis][c.value_bits - 2]);
  }
}

TEST_CASE("value centres: a position comes back, its neighbours stay", "[cache][centres]") {
  for (const CacheCase& c : cases()) {
    CAPTURE(c.dim, c.centres, c.trellis);
    const auto cache = make_layer_cache(test::packed_spec(c, 7));
    const int width = c.n_kv_heads * c.dim;
    const test::Tokens tokens = test::random_tokens(cache->spec(), kTokens, 11);
    std::vector<uint8_t> page(size_t(cache->page_bytes()), 0x55);
    std::vector<double> k(width), v(width), k_before(width), v_before(width);
    for (int t = 0; t < kTokens; ++t) {
      const int other = (t + 37) % kTokens;
      cache->read(other, page.data(), k_before.data(), v_before.data());
      cache->write(t, &tokens.k[size_t(t) * width], &tokens.v[size_t(t) * width], page.data());
      cache->read(other, page.data(), k.data(), v.data());
      REQUIRE(k == k_before);
      REQUIRE(v == v_before);
    }
  }
}

TEST_CASE("value centres: a byte of the page per position, numbers beyond the last are zero",
          "[cache][centres]") {
  for (CacheCase c : {CacheCase{64, 2, 2, 1, 3, 3, true, true, 0, false, 16},
                      test::trellis_case(64, 2, 2, 3, 3, true, 16)}) {
    const PackedSpec spec = test::packed_spec(c, 3);
    const auto cache = make_layer_cache(spec);
    c.centres = 0;
    CHECK(cache->page_bytes() ==
          make_layer_cache(test::packed_spec(c, 3))->page_bytes() + 2 * kPagePositions);
    std::vector<uint8_t> page(size_t(cache->page_bytes()));  // norms of zero
    std::vector<double> k(128), v(128);
    for (const int number : {0, 15, 16, 255}) {
      page[size_t(places(*cache, 1).centres + centre_place(9))] = uint8_t(number);
      cache->read(9, page.data(), k.data(), v.data());
      for (int d = 0; d < 64; ++d)
        REQUIRE(v[size_t(64 + d)] ==
                (number < 16 ? double(spec.value[1].centres[size_t(number * 64 + d)]) : 0.0));
    }
  }
}

TEST_CASE("value centres: what the quantizer of the same codes gives", "[cache][centres]") {
  const PackedSpec spec = test::packed_spec({128, 2, 2, 1, 3, 4, true, true, 0, false, 64}, 5);
  const PackedCache cache(spec);
  const test::Tokens tokens = test::random_tokens(spec, kTokens, 6);
  std::vector<uint8_t> page(size_t(cache.page_bytes()));
  std::vector<double> k(256), v(256);
  for (int h = 0; h < 2; ++h) {
    LinearCode code = spec.value[h];
    code.groups[0].centroids.clear();
    for (const double c : cache_centroids(spec.value[h].groups[0]))
      code.groups[0].centroids.push_back(float(c));
    const LinearQuantizer quantizer(code);
    CHECK(quantizer.code_bytes() == 2 + 64 + 1);  // norm, 128 coordinates of 4 bits, centre
    std::vector<uint8_t> bytes(quantizer.code_bytes());
    std::vector<float> want(128);
    double error = 0, size = 0;
    for (int t = 0; t < kTokens; ++t) {
      cache.write(t, &tokens.k[size_t(t) * 256], &tokens.v[size_t(t) * 256], page.data());
      cache.read(t, page.data(), k.data(), v.data());
      quantizer.encode(&tokens.v[size_t(t * 256 + h * 128)], 1, bytes.data());
      quantizer.decode(bytes.data(), 1, want.data());
      for (int d = 0; d < 128; ++d) {
        error += std::pow(v[size_t(h * 128 + d)] - want[size_t(d)], 2);
        size += std::pow(want[size_t(d)], 2);
      }
    }
    // fp16 norms of |z| here and of |z| / |c| there: 2^-12 each of what is left of a vector. Boundaries
    // between rounded centroids lie elsewhere, by 1 / 254 of the largest: 0.4 % of the distortion of 0.0095.
    CHECK(std::sqrt(error / size) < 0.02);
  }
}

TEST_CASE("value centres: ties go to the lower number, zero stays zero", "[cache][centres]") {
  PackedSpec spec = test::packed_spec({64, 1, 1, 1, 3, 3, true, true, 0, false, 4}, 3);
  std::vector<float>& centres = spec.value[0].centres;
  std::copy_n(centres.begin() + 64, 64, centres.begin() + 192);  // the last is the second
  const CentreRule rule(spec.value[0]);
  CHECK(rule.choose(&centres[192]).centre == 1);
  CHECK_FALSE(rule.choose(&centres[192]).keeps);
  const std::vector<float> zero(64);
  CHECK(rule.choose(zero.data()).keeps);
  const PackedCache cache(spec);
  std::vector<uint8_t> page(size_t(cache.page_bytes()));
  std::vector<double> k(64), v(64);
  cache.write(5, zero.data(), zero.data(), page.data());
  cache.read(5, page.data(), k.data(), v.data());
  CHECK(v == std::vector<double>(64));
}

TEST_CASE("value centres: paged() takes up the mean and rounds to fp16", "[cache][centres]") {
  LinearCode code = test::linear_code(64, {{64, 3}}, true, 1);
  code.mean.assign(64, 0.1f);
  code.centres.assign(2 * 64, 0.25f);
  code = paged(code);
  CHECK(code.mean.empty());
  CHECK(code.mean_flag);
  CHECK(code.centres == std::vector<float>(2 * 64, 0x1.668p-2f));  // of 0.35
}

TEST_CASE("value centres: codes that they are not made for", "[cache][centres]") {
  LinearCode code = test::dropping_code(64, {{48, 3}}, 5);
  code.centres.assign(2 * 64, 1);
  CHECK_THROWS_AS(CentreRule(paged(code)), std::logic_error);  // coordinates of several weights
  code = test::linear_code(64, {{64, 3}}, true, 1);
  CHECK_THROWS_AS(CentreRule(paged(code)), std::logic_error);  // none
  code.centres.assign(512 * 64, 1);
  CHECK_THROWS_AS(CentreRule(paged(code)), std::logic_error);  // more than a byte can number
  PackedSpec spec = test::packed_spec({64, 2, 2, 1, 3, 3, true, true, 0, false, 4}, 3);
  spec.value[1].centres.resize(2 * 64);
  CHECK_THROWS_AS(PackedCache(spec), std::logic_error);  // heads of different numbers
  spec = test::packed_spec({64, 2, 2, 1, 3, 3, true, true}, 3);
  spec.key[0].centres.assign(2 * 64, 1);
  CHECK_THROWS_AS(PackedCache(spec), std::logic_error);  // keys
}
