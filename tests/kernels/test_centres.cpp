// Pages whose values have centres, scalar and trellis codes: written and attended to on the device, against
// the CPU twin in double precision (lib/cache).
#include <cmath>

#include "cache/cuda_layer_cache.h"
#include "cache/exact_cache.h"
#include "encode_pieces.h"
#include "ruled.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

CacheCase scalar_case(int dim, int n_heads, int n_kv_heads, int bits, int value_bits, int centres,
                      bool centred = true, int groups = 1) {
  return {dim, n_heads, n_kv_heads, groups, bits, value_bits, true, centred, 0, false, centres};
}

CacheCase trellis_centres(int dim, int n_heads, int n_kv_heads, int bits, int value_bits, int centres,
                          bool centred = true) {
  return trellis_case(dim, n_heads, n_kv_heads, bits, value_bits, centred, centres);
}

/// Relative error of decode attention. exact: positions in fp16 behind the packed ones. Pages behind a length
/// and outputs are poisoned.
double attention_error(const CacheCase& c, const std::vector<int32_t>& lengths, Random& random, int exact = 0,
                       const Rule& rule = {}) {
  const auto twin = make_layer_cache(packed_spec(c, random.engine()));
  const LayerCache& cache = *twin;
  const ExactCache window(c.n_kv_heads, c.dim);
  const cuda::Stream stream;
  const int64_t batch = int64_t(lengths.size()), width = int64_t(c.n_kv_heads) * c.dim,
                q_width = int64_t(c.n_heads) * c.dim, page_bytes = cache.page_bytes();
  const Sequences s = make_sequences(lengths, random),
                  e = make_sequences(std::vector<int32_t>(lengths.size(), exact), random);
  std::vector<uint8_t> pages = random_pages(cache, s.n_pages, random);
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t p = (lengths[b] + kPagePositions - 1) / kPagePositions; p < s.stride; ++p)
      std::fill_n(&pages[size_t(s.table[b * s.stride + p] * page_bytes)], page_bytes, uint8_t(0xff));
  std::vector<uint8_t> exact_pages(size_t(e.n_pages * window.page_bytes()), 0xff);
  for (int64_t b = 0; b < batch; ++b) {
    const Tokens tokens = random_tokens(cache.spec(), exact, random.engine());
    for (int t = 0; t < exact; ++t)
      window.write(t, &tokens.k[t * width], &tokens.v[t * width],
                   &exact_pages[size_t(e.table[b * e.stride + t / kPagePositions] * window.page_bytes())]);
  }
  std::vector<int32_t> at = lengths;  // of the query
  for (int32_t& t : at) t = std::max(t - 1, 0);
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const auto tables = make_cuda_layer_cache(cache.spec(), longest, stream);
  const std::vector<float> q = rounded(random.normal(batch * q_width), cuda::FloatType::f16);
  const cuda::Buffer on_device = to_device(pages, stream), table = to_device(s.table, stream),
                     length = to_device(s.lengths, stream), exact_device = to_device(exact_pages, stream),
                     exact_table = to_device(e.table, stream), exact_length = to_device(e.lengths, stream),
                     positions = to_device(at, stream),
                     queries = to_device(encode(q, cuda::FloatType::f16), stream),
                     out = poisoned(batch * q_width * 2, stream);
  const cuda::ExactPages beside{
      {exact_device.as<uint8_t>(), exact_table.as<int32_t>(), e.stride, exact_length.as<int32_t>()}, exact};
  cuda::DecodeAttention step;
  step.cache = {on_device.as<uint8_t>(), table.as<int32_t>(), s.stride, length.as<int32_t>()};
  step.batch = int(batch);
  step.longest = longest;
  if (exact > 0) step.exact = &beside;
  step.q = queries.as();
  step.out = out.as();
  step.scale = 1 / std::sqrt(float(c.dim));
  step.fresh = int(random.below(100)) - 1;
  step.rule.window = rule.window;
  step.rule.softcap = rule.softcap;
  step.rule.positions = positions.as<int32_t>();
  const cuda::Buffer scratch = poisoned(tables->scratch_bytes(step), stream);
  tables->attend(step, scratch.as(), stream);
  const auto bytes = to_host<unsigned char>(out.as(), batch * q_width * 2, stream);
  poison(scratch, tables->scratch_bytes(step), stream);
  tables->attend(step, scratch.as(), stream);
  REQUIRE(to_host<unsigned char>(out.as(), batch * q_width * 2, stream) == bytes);  // to the last bit
  REQUIRE(to_host<uint8_t>(on_device.as(), int64_t(pages.size()), stream) == pages);

  const std::vector<float> got = decode(bytes, cuda::FloatType::f16);
  double worst = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const std::vector<float> part(got.begin() + b * q_width, got.begin() + (b + 1) * q_width);
    Held held{cache.read(pages_of(s, pages, b, page_bytes), 0, lengths[b]), {}};
    for (int64_t t = 0; t < lengths[b]; ++t) held.at.push_back(t);
    if (exact > 0)
      held.x.append(window.read(pages_of(e, exact_pages, b, window.page_bytes()), exact));
    else if (lengths[b] == 0) {
      for (const float x : part) REQUIRE(x == 0);
      continue;
    }
    std::vector<double> want(q_width);
    if (rule.plain())
      attend(held.x, c.n_heads, 1, &q[b * q_width], step.scale, want.data());
    else
      want = ruled(held, lengths[b], c.n_heads, &q[b * q_width], step.scale, rule, {});
    worst = worse(worst, distance(part, want));
  }
  return worst;
}

}  // namespace

TEST_CASE("attention over values with centres", "[kernels][centres]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  SECTION("contexts") {
    for (const int32_t n : {1, 63, 64, 65, 700, 4097}) {
      INFO("context " << n);
      CHECK(attention_error(scalar_case(128, 16, 2, 3, 3, 64), {n}, random) < kAttentionBound);
      CHECK(attention_error(scalar_case(64, 8, 2, 2, 4, 32, false), {n}, random) < kAttentionBound);
      CHECK(attention_error(trellis_centres(128, 16, 2, 3, 3, 64), {n}, random) < kAttentionBound);
      CHECK(attention_error(trellis_centres(64, 3, 1, 2, 2, 32, false), {n}, random) < kAttentionBound);
    }
  }
  SECTION("head dimensions, groups of keys and numbers of centres") {
    for (const int dim : {64, 80, 96, 128, 256})
      for (const int centres : {2, 16, 64}) {
        INFO("dimension " << dim << ", centres " << centres);
        CHECK(attention_error(scalar_case(dim, 8, 2, 3, 3, centres), {321}, random) < kAttentionBound);
        CHECK(attention_error(scalar_case(dim, 8, 2, 3, 4, centres, false, 3), {321}, random) <
              kAttentionBound);
        if (dim == 64 || dim == 128)
          CHECK(attention_error(trellis_centres(dim, 8, 2, 3, 3, centres), {321}, random) < kAttentionBound);
      }
  }
  SECTION("widths") {
    for (int bits = 2; bits <= 4; ++bits)
      for (int value_bits = 2; value_bits <= 4; ++value_bits)
        for (const int centres : {16, 64}) {
          INFO("bits " << bits << " and " << value_bits << ", centres " << centres);
          CHECK(attention_error(scalar_case(128, 8, 2, bits, value_bits, centres), {500}, random) <
                kAttentionBound);
          for (const int dim : {64, 128})
            CHECK(attention_error(trellis_centres(dim, 8, 2, bits, value_bits, centres), {500}, random) <
                  kAttentionBound);
        }
    CHECK(attention_error(scalar_case(128, 8, 2, 5, 6, 64), {500}, random) < kAttentionBound);
  }
  SECTION("groups of query heads") {
    for (const int group : {1, 2, 4, 7, 8, 16, 24})
      for (const int centres : {16, 64}) {
        INFO("group " << group << ", centres " << centres);
        CHECK(attention_error(scalar_case(128, 2 * group, 2, 3, 3, centres), {700}, random) <
              kAttentionBound);
        CHECK(attention_error(trellis_centres(128, 2 * group, 2, 3, 3, centres), {700}, random) <
              kAttentionBound);
        CHECK(attention_error(trellis_centres(64, 2 * group, 2, 4, 4, centres, false), {700}, random) <
              kAttentionBound);
      }
  }
  SECTION("several sequences, one of them empty, in pages and parts of them") {
    for (const int centres : {16, 64}) {
      INFO("centres " << centres);
      CHECK(attention_error(scalar_case(128, 32, 8, 3, 3, centres), {1000, 3, 0, 64, 2049}, random) <
            kAttentionBound);
      CHECK(attention_error(trellis_centres(128, 32, 8, 3, 3, centres), {1000, 3, 0, 64, 2049}, random) <
            kAttentionBound);
      for (const int32_t n : {300, 1400, 3500, 16384}) {
        INFO("context " << n);
        CHECK(attention_error(scalar_case(128, 8, 2, 3, 3, centres), {n}, random) < kAttentionBound);
        CHECK(attention_error(trellis_centres(128, 8, 2, 2, 2, centres), {n}, random) < kAttentionBound);
        CHECK(attention_error(trellis_centres(64, 32, 8, 3, 3, centres), {n / 4, n / 2, n / 4}, random) <
              kAttentionBound);
      }
    }
  }
  SECTION("several pages for a warp, and more than it has lanes") {
    for (const int centres : {16, 64}) {
      const std::vector<int32_t> equal(8, 3500);
      CHECK(attention_error(scalar_case(128, 8, 8, 3, 3, centres), equal, random) < kAttentionBound);
      CHECK(attention_error(trellis_centres(128, 8, 8, 3, 3, centres), equal, random) < kAttentionBound);
      std::vector<int32_t> lengths(20, 5);
      lengths[3] = 27000;
      CHECK(attention_error(scalar_case(128, 8, 8, 3, 3, centres), lengths, random) < kAttentionBound);
      CHECK(attention_error(trellis_centres(128, 8, 8, 3, 3, centres), lengths, random) < kAttentionBound);
    }
  }
  SECTION("beside exact positions") {
    for (const int centres : {16, 64})
      for (const int32_t n : {0, 64, 1000}) {
        INFO("positions " << n << ", centres " << centres);
        CHECK(attention_error(scalar_case(128, 8, 2, 3, 3, centres), {n}, random, 70) < kAttentionBound);
        CHECK(attention_error(scalar_case(80, 8, 2, 3, 3, centres), {n}, random, 70) < kAttentionBound);
        CHECK(attention_error(trellis_centres(128, 8, 2, 3, 3, centres), {n}, random, 70) < kAttentionBound);
      }
  }
  SECTION("windows and softcaps") {
    for (const int centres : {16, 64}) {
      INFO("centres " << centres);
      CHECK(attention_error(scalar_case(128, 8, 2, 3, 3, centres), {1000, 40}, random, 0, {300, 0, false}) <
            kAttentionBound);
      CHECK(attention_error(scalar_case(64, 8, 2, 3, 3, centres), {1000}, random, 0, {0, 20, false}) <
            kAttentionBound);
    }
  }
}

TEST_CASE("attention over 131072 positions whose values have centres", "[kernels][centres][slow]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  CHECK(attention_error(trellis_centres(128, 8, 1, 3, 3, 64), {131072}, random) < kAttentionBound);
}

namespace {

/// Writes tokens in pieces and holds numbers, signs and what comes back against the twin's pages.
void check_encoding(const CacheCase& c, const std::vector<int>& pieces, int start, cuda::FloatType type,
                    Random& random) {
  CAPTURE(c.dim, c.centres, c.trellis, start);
  const auto twin = make_layer_cache(packed_spec(c, random.engine()));
  const LayerCache& cache = *twin;
  const cuda::Stream stream;
  int total = start;
  for (const int n : pieces) total += n;
  constexpr int kBatch = 2;
  const Sequences s = make_sequences(std::vector<int32_t>(kBatch, total), random);
  const int64_t width = int64_t(c.n_kv_heads) * c.dim, page_bytes = cache.page_bytes();
  const std::vector<uint8_t> before(size_t(s.n_pages * page_bytes), 0xa5);
  std::vector<uint8_t> want = before;
  const auto page_of = [&](int b, int t) {
    return size_t(s.table[b * s.stride + t / kPagePositions] * page_bytes);
  };
  std::vector<Tokens> tokens;
  for (int b = 0; b < kBatch; ++b) {
    tokens.push_back(random_tokens(cache.spec(), total, random.engine()));
    tokens[b].k = rounded(tokens[b].k, type);
    tokens[b].v = rounded(tokens[b].v, type);
    for (int t = start; t < total; ++t)
      cache.write(t, &tokens[b].k[t * width], &tokens[b].v[t * width], &want[page_of(b, t)]);
  }
  const cuda::Buffer pages = to_device(before, stream), table = to_device(s.table, stream);
  const auto tables = make_cuda_layer_cache(cache.spec(), total, stream);
  encode_pieces(tokens, s, pieces, start, type, pages, table, stream,
                [&](const cuda::EncodeTokens& job) { tables->encode(job, stream); });
  const std::vector<uint8_t> got = to_host<uint8_t>(pages.as(), int64_t(before.size()), stream);
  const std::vector<NormRow> rows = norm_rows(cache);
  std::vector<double> k(width), v(width), v_want(width);
  double error = 0, twin_error = 0;
  for (int b = 0; b < kBatch; ++b)
    for (int t = 0; t < total; ++t) {
      const size_t page = page_of(b, t);
      for (int h = 0; h < c.n_kv_heads; ++h) {  // the rule is the same to the last bit
        const size_t number = page + size_t(centres_at(cache, h) + centre_place(t % kPagePositions));
        CHECK(int(got[number]) == int(want[number]));
        for (const NormRow& row : rows) {
          if (row.at > centres_at(cache, h) || row.at < centres_at(cache, h) - 2 * kPagePositions) continue;
          const size_t sign = page + size_t(row.at + 2 * norm_place(t % kPagePositions) + 1);
          CHECK((got[sign] & 0x80) == (want[sign] & 0x80));
        }
      }
      cache.read(t % kPagePositions, &got[page], k.data(), v.data());
      cache.read(t % kPagePositions, &want[page], k.data(), v_want.data());
      if (t < start) REQUIRE(v == v_want);
      for (int64_t i = 0; t >= start && i < width; ++i) {
        const double x = tokens[b].v[t * width + i];
        error += std::pow(v[i] - x, 2), twin_error += std::pow(v_want[i] - x, 2);
      }
    }
  // A code flips where two are equally near, so that the distortion stays (test_encode.cpp).
  CHECK(std::abs(error / twin_error - 1) < 2e-3);
}

}  // namespace

TEST_CASE("values into pages with centres", "[kernels][centres]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  for (const int centres : {2, 16, 64}) {
    for (const int dim : {64, 80, 96, 128, 256}) {
      check_encoding(scalar_case(dim, 2, 2, 3, 3, centres), {128}, 0, cuda::FloatType::f16, random);
      check_encoding(scalar_case(dim, 2, 2, 3, 5, centres, false, 3), {70, 1, 1, 57, 64}, 5,
                     cuda::FloatType::bf16, random);
    }
    for (const int dim : {64, 128}) {
      check_encoding(trellis_centres(dim, 2, 2, 3, 2, centres), {128}, 0, cuda::FloatType::f16, random);
      check_encoding(trellis_centres(dim, 4, 4, 2, 4, centres, false), {70, 1, 1, 300}, 5,
                     cuda::FloatType::bf16, random);
    }
  }
}
