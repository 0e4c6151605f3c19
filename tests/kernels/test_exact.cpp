// Pages of fp16 keys and values, written and attended to on the device, alone and beside packed ones, against
// the CPU twin in double precision (lib/cache).
#include "windowed.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// Relative error of attention over fp16 pages.
double exact_error(int dim, int n_heads, int n_kv_heads, const std::vector<int32_t>& lengths, Random& random,
                   float q_scale = 1) {
  const cuda::Stream stream;
  const ExactCase c(n_kv_heads, dim, lengths, random);
  const OnDevice device(c.sequences, c.pages, stream);
  const int64_t batch = int64_t(lengths.size()), width = int64_t(n_heads) * dim;
  const std::vector<float> q = rounded(random.normal(batch * width, q_scale), cuda::FloatType::f16);
  const cuda::Buffer queries = to_device(encode(q, cuda::FloatType::f16), stream),
                     out = poisoned(batch * width * 2, stream);
  cuda::ExactAttention step;
  step.dim = dim;
  step.n_heads = n_heads;
  step.n_kv_heads = n_kv_heads;
  step.batch = int(batch);
  step.pages = {device.cache(), longest(c.sequences)};
  step.q = queries.as();
  step.out = out.as();
  step.scale = 1 / std::sqrt(float(dim));
  const cuda::Buffer scratch = poisoned(cuda::exact_scratch_bytes(step), stream);
  cuda::exact_attention(step, scratch.as(), stream);
  const std::vector<float> got =
      decode(to_host<unsigned char>(out.as(), batch * width * 2, stream), cuda::FloatType::f16);
  REQUIRE(to_host<uint8_t>(device.pages.as(), int64_t(c.pages.size()), stream) == c.pages);
  double worst = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const std::vector<float> row(got.begin() + b * width, got.begin() + (b + 1) * width);
    std::vector<double> want(width);
    attend(c.read(b), n_heads, 1, &q[b * width], step.scale, want.data());
    if (lengths[b] == 0)
      CHECK(std::all_of(row.begin(), row.end(), [](float x) { return x == 0; }));
    else
      worst = worse(worst, distance(row, want));
  }
  return worst;
}

}  // namespace

TEST_CASE("decode attention over fp16 pages", "[kernels][exact]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  SECTION("contexts") {
    for (const int32_t n : {1, 15, 16, 17, 63, 64, 65, 4097}) {
      INFO("context " << n);
      CHECK(exact_error(128, 8, 2, {n}, random) < kAttentionBound);
      CHECK(exact_error(128, 8, 2, {n}, random, 8) < kAttentionBound);  // few positions have all the weight
    }
  }
  SECTION("groups of query heads") {
    for (const int group : {1, 2, 4, 7, 8, 16, 24}) {
      INFO("group " << group);
      CHECK(exact_error(128, 2 * group, 2, {700}, random) < kAttentionBound);
      CHECK(exact_error(64, 2 * group, 2, {700}, random) < kAttentionBound);
    }
  }
  SECTION("head dimensions") {
    for (const int dim : {64, 80, 96, 128, 256}) {
      INFO("dimension " << dim);
      CHECK(exact_error(dim, 8, 2, {321}, random) < kAttentionBound);
      CHECK(exact_error(dim, 32, 2, {321}, random) < kAttentionBound);
    }
  }
  SECTION("several sequences, one of them empty") {
    CHECK(exact_error(128, 32, 8, {1000, 0, 64, 2049}, random) < kAttentionBound);
    CHECK(exact_error(96, 10, 1, {0, 5}, random) < kAttentionBound);
  }
  SECTION("every stage of a warp many times") {
    CHECK(exact_error(128, 4, 1, {20011}, random) < kAttentionBound);
    CHECK(exact_error(64, 16, 16, {3001, 2999}, random) < kAttentionBound);
    CHECK(exact_error(256, 16, 1, {20000}, random) < kAttentionBound);
  }
}

namespace {

/// Tokens written in pieces: every byte of the pages as the twin writes it.
void check_append(int dim, int n_kv_heads, const std::vector<int>& pieces, int start, cuda::FloatType type,
                  Random& random) {
  const cuda::Stream stream;
  const int64_t batch = 2, width = int64_t(n_kv_heads) * dim;
  int total = start;
  for (const int n : pieces) total += n;
  ExactCase want(n_kv_heads, dim, {total, total}, random);  // other tokens where the new ones will be
  const OnDevice device(want.sequences, want.pages, stream);
  int at = start;
  for (const int n : pieces) {
    const std::vector<float> k = rounded(random.normal(batch * n * width), type),
                             v = rounded(random.normal(batch * n * width), type);
    const cuda::Buffer keys = to_device(encode(k, type), stream), values = to_device(encode(v, type), stream),
                       starts = to_device(std::vector<int32_t>(batch, at), stream);
    cuda::AppendExact job;
    job.dim = dim;
    job.n_kv_heads = n_kv_heads;
    job.batch = int(batch);
    job.cache = device.cache();
    job.pages = device.pages.as<uint8_t>();
    job.starts = starts.as<int32_t>();
    job.tokens = n;
    job.k = keys.as();
    job.v = values.as();
    job.type = type;
    cuda::append_exact(job, stream);
    stream.synchronize();
    for (int64_t b = 0; b < batch; ++b)
      for (int t = 0; t < n; ++t) want.write(b, at + t, &k[(b * n + t) * width], &v[(b * n + t) * width]);
    at += n;
  }
  CHECK(to_host<uint8_t>(device.pages.as(), int64_t(want.pages.size()), stream) == want.pages);
}

}  // namespace

TEST_CASE("tokens into fp16 pages", "[kernels][exact]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  check_append(128, 2, {128}, 0, cuda::FloatType::f16, random);
  check_append(128, 2, {70, 1, 1, 57, 64}, 0, cuda::FloatType::bf16, random);
  check_append(80, 3, {5, 1, 2, 200}, 61, cuda::FloatType::f16, random);
  check_append(64, 1, {1, 1, 1, 130}, 62, cuda::FloatType::f32, random);
  for (const int dim : {64, 80, 96, 128, 256}) check_append(dim, 2, {100}, 15, cuda::FloatType::bf16, random);
}

namespace {

/// The worst relative error of a few steps, started one after the other without waiting.
double window_error(const CacheCase& c, const ExactWindow& window, const std::vector<int32_t>& lengths,
                    Random& random) {
  constexpr int kSteps = 5;
  const cuda::Stream stream;
  const Windowed w(c, window, lengths, random);
  const CudaCache tables(w.packed.spec(), std::max<int64_t>(longest(w.ends), 1), stream);
  const OnDevice packed(w.ends, w.pages, stream), exact(w.exact.sequences, w.exact.pages, stream);
  const int64_t batch = int64_t(lengths.size()), width = int64_t(c.n_heads) * c.dim;
  const std::vector<float> q = rounded(random.normal(kSteps * batch * width), cuda::FloatType::f16);
  const cuda::Buffer queries = to_device(encode(q, cuda::FloatType::f16), stream),
                     out = poisoned(kSteps * batch * width * 2, stream);
  const cuda::ExactPages beside{exact.cache(), longest(w.exact.sequences)};
  cuda::DecodeAttention step;
  step.layer = &tables.layer();
  step.cache = packed.cache();
  step.batch = int(batch);
  step.longest = longest(w.ends);
  step.first_page = int(window.sink / kPagePositions);
  step.exact = &beside;
  step.scale = 1 / std::sqrt(float(c.dim));
  const cuda::Buffer scratch = poisoned(cuda::decode_scratch_bytes(step), stream);
  for (int i = 0; i < kSteps; ++i) {
    step.q = queries.as<uint16_t>() + i * batch * width;
    step.out = out.as<uint16_t>() + i * batch * width;
    cuda::decode_attention(step, scratch.as(), stream);
  }
  const std::vector<float> got =
      decode(to_host<unsigned char>(out.as(), kSteps * batch * width * 2, stream), cuda::FloatType::f16);
  double worst = 0;
  for (int64_t i = 0; i < kSteps * batch; ++i) {
    std::vector<double> want(width);
    w.twin(i % batch, &q[i * width], step.scale, want.data());
    worst = worse(worst,
                  distance(std::vector<float>(got.begin() + i * width, got.begin() + (i + 1) * width), want));
  }
  return worst;
}

}  // namespace

TEST_CASE("decode attention over packed pages between exact ones", "[kernels][exact][packed]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  SECTION("lengths") {
    for (const int32_t n : {1, 64, 65, 191, 192, 256, 257, 320, 1000, 4097}) {
      INFO("context " << n);
      CHECK(window_error({128, 8, 2}, {64, 128}, {n}, random) < kAttentionBound);
      CHECK(window_error({128, 8, 2, 4, 3, 3, true, true}, {128, 70}, {n}, random) < kAttentionBound);
    }
  }
  SECTION("sink alone, recent alone") {
    CHECK(window_error({128, 8, 2}, {64, 0}, {500}, random) < kAttentionBound);
    CHECK(window_error({128, 8, 2, 3, 3, 3, true}, {0, 100}, {500}, random) < kAttentionBound);
  }
  SECTION("head dimensions and groups of query heads") {
    for (const int dim : {64, 80, 96, 128, 256})
      for (const int group : {1, 7, 16}) {
        INFO("dimension " << dim << ", group " << group);
        CHECK(window_error({dim, 2 * group, 2, 3, 3, 4, true, true, 16}, {64, 128}, {777}, random) <
              kAttentionBound);
      }
  }
  SECTION("several sequences, some of them within the window") {
    CHECK(window_error({128, 32, 8}, {64, 128}, {1000, 3, 130, 2049, 200}, random) < kAttentionBound);
  }
  SECTION("a window longer than what is packed") {
    CHECK(window_error({128, 4, 2}, {64, 6000}, {6300}, random) < kAttentionBound);
  }
}
