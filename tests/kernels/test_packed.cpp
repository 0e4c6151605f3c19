// Packed pages, written and attended to on the device, against the CPU twin in double precision (lib/cache).
#include <cmath>

#include "cache/cuda_cache.h"
#include "encode_pieces.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// A step of decoding over these pages.
cuda::DecodeAttention decode_step(const CudaCache& tables, const Sequences& s, const cuda::Buffer& pages,
                                  const cuda::Buffer& table, const cuda::Buffer& lengths,
                                  const cuda::Buffer& q, const cuda::Buffer& out) {
  cuda::DecodeAttention step;
  step.layer = &tables.layer();
  step.cache = {pages.as<uint8_t>(), table.as<int32_t>(), s.stride, lengths.as<int32_t>()};
  step.batch = int(s.lengths.size());
  step.longest = *std::max_element(s.lengths.begin(), s.lengths.end());
  step.q = q.as();
  step.out = out.as();
  step.scale = 1 / std::sqrt(float(tables.layer().dim));
  return step;
}

/// Longer than one launch takes (short_attention.h).
constexpr int64_t kLongContext = 40000;

/// Relative error of decode attention over sequences of these lengths: that of a step that knows the longest,
/// and that of one that does not. They are cut differently.
double attention_error(const CacheCase& c, const std::vector<int32_t>& lengths, Random& random) {
  const PackedCache cache(packed_spec(c, random.engine()));
  const cuda::Stream stream;
  const Sequences s = make_sequences(lengths, random);
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const std::vector<uint8_t> pages = random_pages(cache, s.n_pages, random);
  // Page numbers for the longest context that may be; those behind a sequence are none.
  const int64_t batch = int64_t(lengths.size()), width = int64_t(c.n_heads) * c.dim;
  Sequences listed = s;
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
  const CudaCache tables(cache.spec(), std::max(longest, kLongContext), stream);
  std::vector<double> want(batch * width, 0.0);
  for (int64_t b = 0; b < batch; ++b)
    if (lengths[b] > 0)
      attend(cache.read(pages_of(s, pages, b, cache.shape().bytes), 0, lengths[b]), c.n_heads, 1,
             &q[b * width], 1 / std::sqrt(float(c.dim)), &want[b * width]);

  double worst = 0;
  for (const int64_t bound : {longest, std::max(longest, kLongContext)}) {
    cuda::DecodeAttention step = decode_step(tables, listed, on_device, table, length, queries, out);
    step.longest = bound;
    step.fresh = int(random.below(100)) - 1;  // pages wait for nobody here: every answer is allowed
    const cuda::Buffer scratch = poisoned(cuda::decode_scratch_bytes(step), stream);
    poison(out, batch * width * 2, stream);
    cuda::decode_attention(step, scratch.as(), stream);
    const std::vector<float> got =
        decode(to_host<unsigned char>(out.as(), batch * width * 2, stream), cuda::FloatType::f16);
    const std::vector<uint8_t> after = to_host<uint8_t>(on_device.as(), int64_t(pages.size()), stream);
    REQUIRE(after == pages);
    for (int64_t b = 0; b < batch; ++b) {
      const std::vector<float> part(got.begin() + b * width, got.begin() + (b + 1) * width);
      if (lengths[b] == 0) {
        for (const float x : part) REQUIRE(x == 0);
        continue;
      }
      const double error =
          distance(part, std::vector<double>(want.begin() + b * width, want.begin() + (b + 1) * width));
      worst = worse(worst, error);
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("decode attention over packed pages", "[kernels][packed]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  SECTION("contexts") {
    for (const int32_t n : {1, 63, 64, 65, 4097}) {
      INFO("context " << n);
      CHECK(attention_error({}, {n}, random) < kAttentionBound);
      CHECK(attention_error({128, 8, 2, 3, 3, 3, false}, {n}, random) < kAttentionBound);
      CHECK(attention_error({128, 8, 2, 4, 3, 3, true, true}, {n}, random) < kAttentionBound);
    }
  }
  SECTION("groups of query heads") {
    for (const int group : {1, 2, 4, 7, 8, 16, 24}) {
      INFO("group " << group);
      CHECK(attention_error({128, 2 * group, 2}, {700}, random) < kAttentionBound);
      CHECK(attention_error({64, 2 * group, 2, 5, 3, 3, true, true}, {700}, random) < kAttentionBound);
    }
  }
  SECTION("head dimensions and numbers of groups") {
    for (const int dim : {64, 80, 96, 128, 256})
      for (const int groups : {1, 2, 3, 8}) {
        INFO("dimension " << dim << ", groups " << groups);
        CHECK(attention_error({dim, 8, 2, groups, 3, 4, false}, {321}, random) < kAttentionBound);
        CHECK(attention_error({dim, 8, 2, groups, 3, 4, true, true, groups > 1 ? 16 : 0}, {321}, random) <
              kAttentionBound);
      }
  }
  SECTION("every width") {
    for (int bits = 1; bits <= 8; ++bits) {
      INFO("bits " << bits);
      CHECK(attention_error({128, 8, 2, 1, bits, bits}, {500}, random) < kAttentionBound);
      CHECK(attention_error({96, 4, 2, 1, bits, 9 - bits}, {500}, random) < kAttentionBound);
    }
  }
  SECTION("several sequences, one of them empty") {
    CHECK(attention_error({128, 32, 8}, {1000, 3, 0, 64, 2049}, random) < kAttentionBound);
    CHECK(attention_error({128, 32, 8, 6, 3, 3, false}, {100, 333}, random) < kAttentionBound);
  }
  SECTION("more sequences than one launch takes, in pages and parts of them") {
    for (const int32_t n : {300, 1400, 3500}) {
      INFO("context " << n);
      const std::vector<int32_t> lengths(3, n);
      CHECK(attention_error({128, 32, 8}, lengths, random) < kAttentionBound);
      CHECK(attention_error({128, 32, 8, 3, 3, 3}, lengths, random) < kAttentionBound);
      CHECK(attention_error({64, 32, 8, 3, 5, 5, true, true}, lengths, random) < kAttentionBound);
    }
  }
  SECTION("all pages in one launch, in whole ones and parts of them") {
    for (const int32_t n : {3000, 7000, 16384}) {
      INFO("context " << n);
      for (const int bits : {2, 3, 4}) {
        CHECK(attention_error({128, 8, 2, 1, bits, bits}, {n}, random) < kAttentionBound);
        CHECK(attention_error({128, 8, 2, 3, 3, bits}, {n}, random) < kAttentionBound);
      }
      CHECK(attention_error({128, 8, 2, 1, 3, 2}, {n}, random) < kAttentionBound);
      CHECK(attention_error({96, 8, 2, 3, 5, 6, false}, {n}, random) < kAttentionBound);
      CHECK(attention_error({80, 8, 2, 3, 3, 3, true, true}, {n}, random) < kAttentionBound);
    }
  }
  SECTION("several pages for a warp") {
    const std::vector<int32_t> lengths(8, 3500);
    for (const int bits : {2, 3, 4})
      CHECK(attention_error({128, 8, 8, 1, bits, bits}, lengths, random) < kAttentionBound);
    CHECK(attention_error({128, 8, 8, 1, 3, 2}, lengths, random) < kAttentionBound);
    for (const int bits : {2, 3, 4, 5})
      CHECK(attention_error({128, 8, 8, 3, 3, bits}, lengths, random) < kAttentionBound);
    CHECK(attention_error({128, 8, 8, 3, 3, 3, false}, lengths, random) < kAttentionBound);
  }
  SECTION("more pages for a warp than it has lanes") {
    // As many short sequences beside a long one as leave it one block per KV head.
    std::vector<int32_t> lengths(20, 5);
    lengths[3] = 27000;
    CHECK(attention_error({128, 8, 8}, lengths, random) < kAttentionBound);
    CHECK(attention_error({128, 8, 8, 3, 3, 3}, lengths, random) < kAttentionBound);
  }
}

TEST_CASE("decode attention behind the token that was appended", "[kernels][packed]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  const CacheCase c;
  const PackedCache cache(packed_spec(c, random.engine()));
  const int64_t width = int64_t(c.n_kv_heads) * c.dim, q_width = int64_t(c.n_heads) * c.dim;
  for (const int n : {1, 64, 65, 1000}) {
    INFO("positions " << n);
    const cuda::Stream stream;
    const Sequences s = make_sequences({n}, random);
    const Tokens tokens = random_tokens(cache.spec(), n, random.engine());
    const std::vector<float> q = rounded(random.normal(q_width), cuda::FloatType::f16);
    const CudaCache tables(cache.spec(), n, stream);
    const cuda::Buffer pages = poisoned(s.n_pages * cache.shape().bytes, stream),
                       table = to_device(s.table, stream), length = to_device(s.lengths, stream),
                       k = to_device(encode(tokens.k, cuda::FloatType::f16), stream),
                       v = to_device(encode(tokens.v, cuda::FloatType::f16), stream),
                       first = to_device(std::vector<int32_t>{0}, stream),
                       last = to_device(std::vector<int32_t>{n - 1}, stream),
                       queries = to_device(encode(q, cuda::FloatType::f16), stream),
                       out = poisoned(q_width * 2, stream);
    const auto encode_tokens = [&](const cuda::Buffer& start, int from, int count) {
      tables.encode(encode_job(s, pages, table, start, count, k.as<uint16_t>() + from * width,
                               v.as<uint16_t>() + from * width, cuda::FloatType::f16),
                    stream);
    };
    if (n > 1) encode_tokens(first, 0, n - 1);
    cuda::DecodeAttention step = decode_step(tables, s, pages, table, length, queries, out);
    step.fresh = 1;
    const cuda::Buffer scratch = poisoned(cuda::decode_scratch_bytes(step), stream);
    stream.synchronize();
    encode_tokens(last, n - 1, 1);
    cuda::decode_attention(step, scratch.as(), stream);
    const std::vector<float> got =
        decode(to_host<unsigned char>(out.as(), q_width * 2, stream), cuda::FloatType::f16);
    const std::vector<uint8_t> held = to_host<uint8_t>(pages.as(), s.n_pages * cache.shape().bytes, stream);
    std::vector<double> want(q_width);
    attend(cache.read(pages_of(s, held, 0, cache.shape().bytes), 0, n), c.n_heads, 1, q.data(), step.scale,
           want.data());
    CHECK(distance(got, want) < kAttentionBound);
  }
}

TEST_CASE("decode attention over 131072 positions", "[kernels][packed][slow]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  CHECK(attention_error({128, 8, 1}, {131072}, random) < kAttentionBound);
}

namespace {

struct EncodeResult {
  double code_share = 0;    // of code bytes that differ from the twin's
  double norm_error = 0;    // largest relative difference of a norm
  double distortion = 0;    // |x - x_hat|^2 over the twin's, keys and values
  bool others_kept = true;  // bytes outside the positions written
  int ties = 0;             // vectors that may keep their mean or not, all of whose bytes may differ then
};

/// Writes tokens in pieces and holds the pages against the twin's.
EncodeResult encode_result(const CacheCase& c, const std::vector<int>& pieces, int start,
                           cuda::FloatType type, Random& random) {
  const PackedCache cache(packed_spec(c, random.engine()));
  const cuda::Stream stream;
  EncodeResult result;
  int total = start;
  for (const int n : pieces) total += n;
  const Sequences s = make_sequences({total, total}, random);
  const int64_t batch = 2, width = int64_t(c.n_kv_heads) * c.dim;
  const std::vector<uint8_t> before(size_t(s.n_pages) * cache.shape().bytes, 0xa5);
  std::vector<uint8_t> want = before;
  const cuda::Buffer pages = to_device(before, stream), table = to_device(s.table, stream);
  const CudaCache tables(cache.spec(), total, stream);
  std::vector<Tokens> tokens;
  for (int b = 0; b < batch; ++b) {
    tokens.push_back(random_tokens(cache.spec(), total, random.engine()));
    tokens[b].k = rounded(tokens[b].k, type);
    tokens[b].v = rounded(tokens[b].v, type);
    result.ties += near_ties(cache.spec(), tokens[b]);
    for (int t = start; t < total; ++t)
      cache.write(t, &tokens[b].k[t * width], &tokens[b].v[t * width],
                  &want[size_t(s.table[b * s.stride + t / kPagePositions]) * cache.shape().bytes]);
  }
  encode_pieces(tokens, s, pieces, start, type, pages, table, stream,
                [&](const cuda::EncodeTokens& job) { tables.encode(job, stream); });
  const std::vector<uint8_t> got = to_host<uint8_t>(pages.as(), int64_t(before.size()), stream);
  int64_t differ = 0;
  for (size_t i = 0; i < got.size(); ++i) differ += got[i] != want[i];
  result.code_share =
      double(differ) / double((total - start) * batch) / (cache.shape().bytes / kPagePositions);
  double error = 0, twin_error = 0;
  std::vector<double> k(width), v(width), k_want(width), v_want(width);
  for (int b = 0; b < batch; ++b)
    for (int t = 0; t < total; ++t) {
      const size_t page = size_t(s.table[b * s.stride + t / kPagePositions]) * cache.shape().bytes;
      cache.read(t, &got[page], k.data(), v.data());
      cache.read(t, &want[page], k_want.data(), v_want.data());
      for (int64_t i = 0; i < width; ++i) {
        if (t < start) {
          result.others_kept = result.others_kept && k[i] == k_want[i] && v[i] == v_want[i];
          continue;
        }
        const double x = tokens[b].k[t * width + i], y = tokens[b].v[t * width + i];
        error += std::pow(k[i] - x, 2) + std::pow(v[i] - y, 2);
        twin_error += std::pow(k_want[i] - x, 2) + std::pow(v_want[i] - y, 2);
      }
    }
  result.distortion = error / twin_error;
  return result;
}

}  // namespace

TEST_CASE("tokens into packed pages", "[kernels][packed]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  // A flip moves one code where two centroids are equally near; a byte holds several codes and norms are off
  // by a unit of fp16 in some positions: 4 % of bytes is far below what a wrong place or table gives (over 50
  // %). By the norm correction a flip turns its whole group a little, which moves one key's error by up to 10
  // % either way: with a flip in 4 % of N vectors the distortion is off by 0.1 sqrt(0.04 N) / N, 1.4e-3 at
  // the 200 vectors of the smallest case, and three and a half times that is never seen.
  const auto good = [](const EncodeResult& r) {
    INFO("bytes that differ " << r.code_share << ", distortion against the twin's " << r.distortion);
    CHECK(r.code_share < 0.04);
    CHECK(std::abs(r.distortion - 1) < 5e-3);
    CHECK(r.others_kept);
    CHECK(r.ties <= 1);
  };
  SECTION("whole pages and pieces") {
    good(encode_result({128, 4, 2}, {128}, 0, cuda::FloatType::f16, random));
    good(encode_result({128, 4, 2}, {70, 1, 1, 57, 64}, 0, cuda::FloatType::bf16, random));
    good(encode_result({128, 4, 2, 3, 3, 3, false}, {5, 1, 200}, 61, cuda::FloatType::f16, random));
    good(encode_result({128, 4, 2, 4, 3, 3, true, true}, {1, 1, 1, 130}, 62, cuda::FloatType::f16, random));
    good(encode_result({128, 4, 2, 4, 3, 3, true, true, 16}, {129}, 0, cuda::FloatType::bf16, random));
  }
  SECTION("vectors that keep their mean") {
    for (const int dim : {64, 80, 96, 128, 256})
      for (const bool one_norm : {true, false})
        for (const cuda::FloatType type : {cuda::FloatType::f16, cuda::FloatType::bf16}) {
          INFO("dimension " << dim << ", one norm " << one_norm << ", bf16 "
                            << (type == cuda::FloatType::bf16));
          good(encode_result({dim, 2, 1, 3, 3, 3, one_norm, true}, {77, 60}, 3, type, random));
        }
    for (const int bits : {2, 3, 4})
      good(encode_result({128, 2, 2, 1, bits, bits, true, true}, {200}, 0, cuda::FloatType::bf16, random));
  }
  SECTION("head dimensions, groups, widths") {
    for (const int dim : {64, 80, 96, 128, 256})
      for (const int groups : {1, 3, 8}) {
        INFO("dimension " << dim << ", groups " << groups);
        good(encode_result({dim, 2, 1, groups, 2, 4, groups == 3}, {100}, 0, cuda::FloatType::f16, random));
      }
    for (int bits = 1; bits <= 8; ++bits) {
      INFO("bits " << bits);
      good(encode_result({128, 2, 1, 1, bits, 9 - bits}, {100}, 0, cuda::FloatType::f16, random));
    }
  }
}
