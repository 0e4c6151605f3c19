// Pages of trellis codes, written and attended to on the device, against the CPU twin (lib/cache).
#include <cmath>

#include "cache/cuda_trellis_cache.h"
#include "cache/exact_cache.h"
#include "encode_pieces.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

constexpr int64_t kLongContext = 40000;

/// Relative error of attention over sequences of these lengths: that of a step that knows the longest, and
/// that of one that does not. They are cut differently.
double attention_error(const CacheCase& c, const std::vector<int32_t>& lengths, Random& random) {
  const TrellisCache cache(packed_spec(c, random.engine()));
  const cuda::Stream stream;
  const Sequences s = make_sequences(lengths, random);
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const std::vector<uint8_t> pages = random_pages(cache, s.n_pages, random);
  const int64_t batch = int64_t(lengths.size()), width = int64_t(c.n_heads) * c.dim;
  Sequences listed = s;  // page numbers behind a sequence are none
  listed.stride = std::max<int64_t>(s.stride, kLongContext / kPagePositions);
  listed.table.assign(batch * listed.stride, -1);
  for (int64_t b = 0; b < batch; ++b)
    std::copy_n(&s.table[b * s.stride], (lengths[b] + kPagePositions - 1) / kPagePositions,
                &listed.table[b * listed.stride]);
  const cuda::Buffer on_device = to_device(pages, stream), table = to_device(listed.table, stream),
                     length = to_device(s.lengths, stream);
  const std::vector<float> q = rounded(random.normal(batch * width), cuda::FloatType::f16);
  const cuda::Buffer queries = to_device(encode(q, cuda::FloatType::f16), stream),
                     out = poisoned(batch * width * 2, stream);
  const CudaTrellisCache tables(cache.spec(), std::max(longest, kLongContext), stream);
  std::vector<double> want(batch * width, 0.0);
  for (int64_t b = 0; b < batch; ++b)
    if (lengths[b] > 0)
      attend(cache.read(pages_of(s, pages, b, cache.page_bytes()), 0, lengths[b]), c.n_heads, 1,
             &q[b * width], 1 / std::sqrt(float(c.dim)), &want[b * width]);

  double worst = 0;
  for (const int64_t bound : {longest, std::max(longest, kLongContext)}) {
    cuda::DecodeAttention step;
    step.cache = {on_device.as<uint8_t>(), table.as<int32_t>(), listed.stride, length.as<int32_t>()};
    step.batch = int(batch);
    step.longest = bound;
    step.q = queries.as();
    step.out = out.as();
    step.scale = 1 / std::sqrt(float(c.dim));
    step.fresh = int(random.below(100)) - 1;  // pages wait for nobody here: every answer is allowed
    const cuda::Buffer scratch = poisoned(cuda::trellis_scratch_bytes(tables.layer(), step), stream);
    poison(out, batch * width * 2, stream);
    cuda::trellis_attention(tables.layer(), step, scratch.as(), stream);
    const std::vector<float> got =
        decode(to_host<unsigned char>(out.as(), batch * width * 2, stream), cuda::FloatType::f16);
    REQUIRE(to_host<uint8_t>(on_device.as(), int64_t(pages.size()), stream) == pages);
    for (int64_t b = 0; b < batch; ++b) {
      const std::vector<float> part(got.begin() + b * width, got.begin() + (b + 1) * width);
      if (lengths[b] == 0) {
        for (const float x : part) REQUIRE(x == 0);
        continue;
      }
      worst = worse(worst, distance(part, std::vector<double>(want.begin() + b * width,
                                                              want.begin() + (b + 1) * width)));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("attention over trellis pages", "[kernels][trellis]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  SECTION("contexts") {
    for (const int32_t n : {1, 63, 64, 65, 1000, 4097}) {
      INFO("context " << n);
      CHECK(attention_error(trellis_case(128, 16, 2, 3, 3), {n}, random) < kAttentionBound);
      CHECK(attention_error(trellis_case(128, 8, 2, 3, 3, true), {n}, random) < kAttentionBound);
      CHECK(attention_error(trellis_case(64, 8, 2, 3, 3), {n}, random) < kAttentionBound);
    }
  }
  SECTION("widths of keys and values") {
    for (const int dim : {64, 128})
      for (int bits = 2; bits <= 4; ++bits)
        for (int value_bits = 2; value_bits <= 4; ++value_bits) {
          INFO("dimension " << dim << ", bits " << bits << " and " << value_bits);
          CHECK(attention_error(trellis_case(dim, 8, 2, bits, value_bits), {500}, random) < kAttentionBound);
          CHECK(attention_error(trellis_case(dim, 8, 2, bits, value_bits, true), {700}, random) <
                kAttentionBound);
        }
  }
  SECTION("groups of query heads") {
    for (const int group : {1, 2, 4, 7, 8, 16, 24})
      for (int bits = 2; bits <= 4; ++bits) {
        INFO("group " << group << ", bits " << bits);
        CHECK(attention_error(trellis_case(128, 2 * group, 2, bits, bits), {700}, random) < kAttentionBound);
        CHECK(attention_error(trellis_case(64, 2 * group, 2, bits, bits, true), {700}, random) <
              kAttentionBound);
      }
  }
  SECTION("several sequences, one of them empty") {
    CHECK(attention_error(trellis_case(128, 32, 8, 3, 3), {1000, 3, 0, 64, 2049}, random) < kAttentionBound);
    CHECK(attention_error(trellis_case(64, 32, 8, 2, 4), {100, 333}, random) < kAttentionBound);
  }
  SECTION("pages and parts of them") {
    for (const int32_t n : {300, 1400, 3500, 16384})
      for (int bits = 2; bits <= 4; ++bits) {
        INFO("context " << n << ", bits " << bits);
        CHECK(attention_error(trellis_case(128, 8, 2, bits, bits), {n}, random) < kAttentionBound);
        CHECK(attention_error(trellis_case(64, 32, 8, bits, bits), {n / 4, n / 2, n / 4}, random) <
              kAttentionBound);
      }
  }
  SECTION("several pages for a warp, and more than it has lanes") {
    for (int bits = 2; bits <= 4; ++bits)
      CHECK(attention_error(trellis_case(128, 8, 8, bits, bits), std::vector<int32_t>(8, 3500), random) <
            kAttentionBound);
    std::vector<int32_t> lengths(20, 5);
    lengths[3] = 27000;
    CHECK(attention_error(trellis_case(128, 8, 8, 3, 3), lengths, random) < kAttentionBound);
  }
}

TEST_CASE("attention over trellis pages beside exact ones", "[kernels][trellis]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  const CacheCase c = trellis_case(128, 8, 2, 3, 3);
  const TrellisCache cache(packed_spec(c, random.engine()));
  const ExactCache window(c.n_kv_heads, c.dim);
  const int64_t width = int64_t(c.n_kv_heads) * c.dim, q_width = int64_t(c.n_heads) * c.dim;
  for (const int packed : {0, 64, 1000}) {
    INFO("positions " << packed);
    const int exact = 70;
    const cuda::Stream stream;
    const Sequences s = make_sequences({packed}, random), e = make_sequences({exact}, random);
    const std::vector<uint8_t> pages = random_pages(cache, s.n_pages, random);
    std::vector<uint8_t> exact_pages(e.n_pages * window.page_bytes());
    const Tokens tokens = random_tokens(cache.spec(), exact, random.engine());
    for (int t = 0; t < exact; ++t)
      window.write(t, &tokens.k[t * width], &tokens.v[t * width],
                   &exact_pages[e.table[t / kPagePositions] * window.page_bytes()]);
    const std::vector<float> q = rounded(random.normal(q_width), cuda::FloatType::f16);
    const CudaTrellisCache tables(cache.spec(), packed, stream);
    const cuda::Buffer on_device = to_device(pages, stream), table = to_device(s.table, stream),
                       length = to_device(s.lengths, stream), exact_device = to_device(exact_pages, stream),
                       exact_table = to_device(e.table, stream), exact_length = to_device(e.lengths, stream),
                       queries = to_device(encode(q, cuda::FloatType::f16), stream),
                       out = poisoned(q_width * 2, stream);
    const cuda::ExactPages beside{
        {exact_device.as<uint8_t>(), exact_table.as<int32_t>(), e.stride, exact_length.as<int32_t>()}, exact};
    cuda::DecodeAttention step;
    step.cache = {on_device.as<uint8_t>(), table.as<int32_t>(), s.stride, length.as<int32_t>()};
    step.batch = 1;
    step.longest = packed;
    step.exact = &beside;
    step.q = queries.as();
    step.out = out.as();
    step.scale = 1 / std::sqrt(float(c.dim));
    const cuda::Buffer scratch = poisoned(cuda::trellis_scratch_bytes(tables.layer(), step), stream);
    cuda::trellis_attention(tables.layer(), step, scratch.as(), stream);
    const std::vector<float> got =
        decode(to_host<unsigned char>(out.as(), q_width * 2, stream), cuda::FloatType::f16);
    PlainPositions x = cache.read(pages_of(s, pages, 0, cache.page_bytes()), 0, packed);
    x.append(window.read(pages_of(e, exact_pages, 0, window.page_bytes()), exact));
    std::vector<double> want(q_width);
    attend(x, c.n_heads, 1, q.data(), step.scale, want.data());
    CHECK(distance(got, want) < kAttentionBound);
  }
}

TEST_CASE("attention over 131072 positions in trellis pages", "[kernels][trellis][slow]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  CHECK(attention_error(trellis_case(128, 8, 1, 3, 3), {131072}, random) < kAttentionBound);
}

namespace {

struct EncodeResult {
  double byte_share = 0;    // of bytes that differ from the twin's
  double distortion = 0;    // |x - x_hat|^2 over the twin's, keys and values
  bool others_kept = true;  // positions before those written
  int ties = 0;             // vectors that may keep their mean or not, all of whose bytes may differ then
};

/// Writes tokens in pieces and holds the pages against the twin's.
EncodeResult encode_result(const CacheCase& c, const std::vector<int>& pieces, int start,
                           cuda::FloatType type, Random& random) {
  const TrellisCache cache(packed_spec(c, random.engine()));
  const cuda::Stream stream;
  EncodeResult result;
  int total = start;
  for (const int n : pieces) total += n;
  const Sequences s = make_sequences({total, total}, random);
  const int64_t batch = 2, width = int64_t(c.n_kv_heads) * c.dim;
  const std::vector<uint8_t> before(size_t(s.n_pages) * cache.page_bytes(), 0xa5);
  std::vector<uint8_t> want = before;
  const cuda::Buffer pages = to_device(before, stream), table = to_device(s.table, stream);
  const CudaTrellisCache tables(cache.spec(), total, stream);
  const auto page_of = [&](int b, int t) {
    return size_t(s.table[b * s.stride + t / kPagePositions]) * cache.page_bytes();
  };
  std::vector<Tokens> tokens;
  for (int b = 0; b < batch; ++b) {
    tokens.push_back(random_tokens(cache.spec(), total, random.engine()));
    tokens[b].k = rounded(tokens[b].k, type);
    tokens[b].v = rounded(tokens[b].v, type);
    result.ties += near_ties(cache.spec(), tokens[b]);
    for (int t = start; t < total; ++t)
      cache.write(t, &tokens[b].k[t * width], &tokens[b].v[t * width], &want[page_of(b, t)]);
  }
  encode_pieces(tokens, s, pieces, start, type, pages, table, stream, [&](const cuda::EncodeTokens& job) {
    cuda::encode_trellis(tables.layer(), tables.encoder(), job, stream);
  });
  const std::vector<uint8_t> got = to_host<uint8_t>(pages.as(), int64_t(before.size()), stream);
  int64_t differ = 0;
  for (size_t i = 0; i < got.size(); ++i) differ += got[i] != want[i];
  result.byte_share =
      double(differ) / double((total - start) * batch) / (cache.page_bytes() / kPagePositions);
  double error = 0, twin_error = 0;
  std::vector<double> k(width), v(width), k_want(width), v_want(width);
  for (int b = 0; b < batch; ++b)
    for (int t = 0; t < total; ++t) {
      cache.read(t, &got[page_of(b, t)], k.data(), v.data());
      cache.read(t, &want[page_of(b, t)], k_want.data(), v_want.data());
      if (t < start) {
        result.others_kept = result.others_kept && k == k_want && v == v_want;
        continue;
      }
      for (int64_t i = 0; i < width; ++i) {
        const double x = tokens[b].k[t * width + i], y = tokens[b].v[t * width + i];
        error += std::pow(k[i] - x, 2) + std::pow(v[i] - y, 2);
        twin_error += std::pow(k_want[i] - x, 2) + std::pow(v_want[i] - y, 2);
      }
    }
  result.distortion = error / twin_error;
  return result;
}

}  // namespace

TEST_CASE("tokens into trellis pages", "[kernels][trellis]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  // The product is float32 on the device and double in the twin, 1e-6 of a coordinate apart: costs of paths
  // are 1e-6 of their sum apart. Another path is as near once in some 10^4 vectors, and then a few bytes
  // differ, at the same distortion; a norm is off by a unit of fp16 as rarely. A wrong place or table gives
  // over 50 % of the bytes.
  const auto good = [](const EncodeResult& r) {
    INFO("bytes that differ " << r.byte_share << ", distortion against the twin's " << r.distortion);
    CHECK(r.byte_share < 0.01);
    CHECK(std::abs(r.distortion - 1) < 1e-3);
    CHECK(r.others_kept);
    CHECK(r.ties <= 1);
  };
  SECTION("whole pages and pieces") {
    good(encode_result(trellis_case(128, 4, 2, 3, 3), {128}, 0, cuda::FloatType::f16, random));
    good(encode_result(trellis_case(128, 4, 2, 3, 3), {70, 1, 1, 57, 64}, 0, cuda::FloatType::bf16, random));
    good(
        encode_result(trellis_case(128, 4, 2, 3, 3, true), {1, 1, 1, 130}, 62, cuda::FloatType::f16, random));
  }
  SECTION("widths of keys and values") {
    for (const int dim : {64, 128})
      for (int bits = 2; bits <= 4; ++bits) {
        INFO("dimension " << dim << ", bits " << bits);
        good(encode_result(trellis_case(dim, 4, 2, bits, 6 - bits, bits == 3), {100}, 5, cuda::FloatType::f16,
                           random));
        good(encode_result(trellis_case(dim, 2, 1, bits, bits), {33}, 0, cuda::FloatType::bf16, random));
      }
  }
}

TEST_CASE("attention over trellis pages behind the token that was appended", "[kernels][trellis]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  const CacheCase c = trellis_case(128, 16, 2, 3, 3);
  const TrellisCache cache(packed_spec(c, random.engine()));
  const int64_t width = int64_t(c.n_kv_heads) * c.dim, q_width = int64_t(c.n_heads) * c.dim;
  for (const int n : {1, 64, 65, 1000}) {
    INFO("positions " << n);
    const cuda::Stream stream;
    const Sequences s = make_sequences({n}, random);
    const Tokens tokens = random_tokens(cache.spec(), n, random.engine());
    const std::vector<float> q = rounded(random.normal(q_width), cuda::FloatType::f16);
    const CudaTrellisCache tables(cache.spec(), n, stream);
    const cuda::Buffer pages = poisoned(s.n_pages * cache.page_bytes(), stream),
                       table = to_device(s.table, stream), length = to_device(s.lengths, stream),
                       k = to_device(encode(tokens.k, cuda::FloatType::f16), stream),
                       v = to_device(encode(tokens.v, cuda::FloatType::f16), stream),
                       first = to_device(std::vector<int32_t>{0}, stream),
                       last = to_device(std::vector<int32_t>{n - 1}, stream),
                       queries = to_device(encode(q, cuda::FloatType::f16), stream),
                       out = poisoned(q_width * 2, stream);
    const auto encode_tokens = [&](const cuda::Buffer& start, int from, int count) {
      cuda::EncodeTokens job;
      job.pages = pages.as<uint8_t>();
      job.cache = {job.pages, table.as<int32_t>(), s.stride, nullptr};
      job.starts = start.as<int32_t>();
      job.batch = 1;
      job.tokens = count;
      job.k = k.as<uint16_t>() + from * width;
      job.v = v.as<uint16_t>() + from * width;
      cuda::encode_trellis(tables.layer(), tables.encoder(), job, stream);
    };
    if (n > 1) encode_tokens(first, 0, n - 1);
    cuda::DecodeAttention step;
    step.cache = {pages.as<uint8_t>(), table.as<int32_t>(), s.stride, length.as<int32_t>()};
    step.batch = 1;
    step.longest = n;
    step.q = queries.as();
    step.out = out.as();
    step.scale = 1 / std::sqrt(float(c.dim));
    step.fresh = 1;
    const cuda::Buffer scratch = poisoned(cuda::trellis_scratch_bytes(tables.layer(), step), stream);
    stream.synchronize();
    encode_tokens(last, n - 1, 1);
    cuda::trellis_attention(tables.layer(), step, scratch.as(), stream);
    const std::vector<float> got =
        decode(to_host<unsigned char>(out.as(), q_width * 2, stream), cuda::FloatType::f16);
    const std::vector<uint8_t> held = to_host<uint8_t>(pages.as(), s.n_pages * cache.page_bytes(), stream);
    std::vector<double> want(q_width);
    attend(cache.read(pages_of(s, held, 0, cache.page_bytes()), 0, n), c.n_heads, 1, q.data(), step.scale,
           want.data());
    CHECK(distance(got, want) < kAttentionBound);
  }
}
