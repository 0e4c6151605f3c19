// Sliding windows, softcaps and learned sinks of a decoding step, over fp16 pages, packed ones and both,
// against softmax in double precision over what the CPU twin reads.
#include "ruled.h"
#include "windowed.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// NaN in the pages of sequence b of which all 64 positions lie before `first`: nobody may read them.
void spoil(std::vector<uint8_t>& pages, const Sequences& s, int64_t b, int64_t first, int64_t bytes) {
  for (int64_t p = 0; p < std::min(first / kPagePositions, s.stride); ++p)
    std::fill_n(pages.begin() + s.table[size_t(b * s.stride + p)] * bytes, bytes, uint8_t(0xff));
}

std::vector<int32_t> before(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> positions = lengths;
  for (int32_t& n : positions) --n;
  return positions;
}

double compare(const std::vector<float>& got, int64_t b, const std::vector<double>& want) {
  const auto width = int64_t(want.size());
  return distance(std::vector<float>(got.begin() + b * width, got.begin() + (b + 1) * width), want);
}

/// The worst relative error over fp16 pages alone.
double exact_error(int dim, int n_heads, int n_kv_heads, const std::vector<int32_t>& lengths,
                   const Rule& rule, Random& random) {
  const cuda::Stream stream;
  ExactCase c(n_kv_heads, dim, lengths, random);
  const int64_t batch = int64_t(lengths.size()), width = int64_t(n_heads) * dim;
  const std::vector<float> q = rounded(random.normal(batch * width), cuda::FloatType::f16),
                           sinks = random.normal(n_heads, 3);
  std::vector<std::vector<double>> want;
  const double scale = 1 / std::sqrt(double(dim));
  for (int64_t b = 0; b < batch; ++b) {
    Held held{c.read(b), {}};
    for (int64_t t = 0; t < lengths[size_t(b)]; ++t) held.at.push_back(t);
    want.push_back(ruled(held, lengths[size_t(b)], n_heads, &q[size_t(b * width)], scale, rule, sinks));
  }
  if (rule.window > 0)
    for (int64_t b = 0; b < batch; ++b)
      spoil(c.pages, c.sequences, b, lengths[size_t(b)] - rule.window, c.cache.page_bytes());
  const OnDevice device(c.sequences, c.pages, stream);
  const cuda::Buffer queries = to_device(encode(q, cuda::FloatType::f16), stream),
                     positions = to_device(before(lengths), stream), on_sinks = to_device(sinks, stream),
                     out = poisoned(batch * width * 2, stream);
  cuda::ExactAttention step;
  step.dim = dim;
  step.n_heads = n_heads;
  step.n_kv_heads = n_kv_heads;
  step.batch = int(batch);
  step.pages = {device.cache(), longest(c.sequences) + random.below(100)};
  step.q = queries.as();
  step.out = out.as();
  step.scale = float(scale);
  step.rule = {rule.window, positions.as<int32_t>(), rule.softcap,
               rule.sinks ? on_sinks.as<float>() : nullptr};
  const cuda::Buffer scratch = poisoned(cuda::exact_scratch_bytes(step), stream);
  cuda::exact_attention(step, scratch.as(), stream);
  const std::vector<float> got =
      decode(to_host<unsigned char>(out.as(), batch * width * 2, stream), cuda::FloatType::f16);
  double worst = 0;
  for (int64_t b = 0; b < batch; ++b) worst = worse(worst, compare(got, b, want[size_t(b)]));
  return worst;
}

/// The same over packed pages between exact ones, which may be none.
double packed_error(const CacheCase& c, const ExactWindow& exact_part, const std::vector<int32_t>& lengths,
                    const Rule& rule, Random& random) {
  const cuda::Stream stream;
  Windowed w(c, exact_part, lengths, random);
  const int64_t batch = int64_t(lengths.size()), width = int64_t(c.n_heads) * c.dim;
  const std::vector<float> q = rounded(random.normal(batch * width), cuda::FloatType::f16),
                           sinks = random.normal(c.n_heads, 3);
  const double scale = 1 / std::sqrt(double(c.dim));
  std::vector<std::vector<double>> want;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t n = lengths[size_t(b)], end = w.ends.lengths[size_t(b)],
                  n_exact = w.exact.sequences.lengths[size_t(b)];
    Held held{w.packed.read(pages_of(w.ends, w.pages, b, w.packed.shape().bytes), exact_part.sink, end), {}};
    for (int64_t t = exact_part.sink; t < end; ++t) held.at.push_back(t);
    held.x.append(w.exact.read(b));
    for (int64_t i = 0; i < n_exact; ++i)
      held.at.push_back(i < exact_part.sink ? i : end + i - exact_part.sink);
    want.push_back(ruled(held, n, c.n_heads, &q[size_t(b * width)], scale, rule, sinks));
  }
  if (rule.window > 0)
    for (int64_t b = 0; b < batch; ++b)
      spoil(w.pages, w.ends, b, lengths[size_t(b)] - rule.window, w.packed.shape().bytes);
  const CudaCache tables(w.packed.spec(), std::max<int64_t>(longest(w.ends), 1), stream);
  const OnDevice packed(w.ends, w.pages, stream), exact(w.exact.sequences, w.exact.pages, stream);
  const cuda::Buffer queries = to_device(encode(q, cuda::FloatType::f16), stream),
                     positions = to_device(before(lengths), stream), on_sinks = to_device(sinks, stream),
                     out = poisoned(batch * width * 2, stream);
  const cuda::ExactPages beside{exact.cache(), longest(w.exact.sequences), exact_part.sink};
  cuda::DecodeAttention step;
  step.layer = &tables.layer();
  step.cache = packed.cache();
  step.batch = int(batch);
  step.longest = longest(w.ends);
  step.first_page = int(exact_part.sink / kPagePositions);
  step.fresh = int(random.below(3)) - 1;
  if (exact_part != ExactWindow{}) step.exact = &beside;
  step.q = queries.as();
  step.out = out.as();
  step.scale = float(scale);
  step.rule = {rule.window, positions.as<int32_t>(), rule.softcap,
               rule.sinks ? on_sinks.as<float>() : nullptr};
  const cuda::Buffer scratch = poisoned(cuda::decode_scratch_bytes(step), stream);
  stream.synchronize();
  cuda::decode_attention(step, scratch.as(), stream);
  const std::vector<float> got =
      decode(to_host<unsigned char>(out.as(), batch * width * 2, stream), cuda::FloatType::f16);
  double worst = 0;
  for (int64_t b = 0; b < batch; ++b) worst = worse(worst, compare(got, b, want[size_t(b)]));
  return worst;
}

const Rule kRules[] = {{1}, {17}, {128}, {500}, {100000}, {0, 2.5f}, {0, 0, true}, {100, 2.5f, true}};

}  // namespace

TEST_CASE("windows, softcaps and sinks over fp16 pages", "[kernels][rules]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  for (const Rule& rule : kRules) {
    INFO("window " << rule.window << ", softcap " << rule.softcap << ", sinks " << rule.sinks);
    for (const int32_t n : {1, 16, 17, 127, 128, 129, 700, 4097}) {
      INFO("context " << n);
      CHECK(exact_error(128, 8, 2, {n}, rule, random) < kAttentionBound);
    }
    for (const int dim : {64, 80, 96, 128, 256})
      for (const int group : {1, 8, 16})
        CHECK(exact_error(dim, 2 * group, 2, {700, 3}, rule, random) < kAttentionBound);
    CHECK(exact_error(128, 32, 8, {1000, 1, 64, 2049, 100}, rule, random) < kAttentionBound);
  }
}

TEST_CASE("windows, softcaps and sinks over packed pages", "[kernels][rules]") {
  if (!has_device()) return;
  Random random;
  INFO("seed " << random.seed);
  for (const Rule& rule : kRules) {
    INFO("window " << rule.window << ", softcap " << rule.softcap << ", sinks " << rule.sinks);
    for (const ExactWindow exact :
         {ExactWindow{}, ExactWindow{64, 128}, ExactWindow{128, 0}, ExactWindow{0, 100}}) {
      INFO("sink " << exact.sink << ", recent " << exact.recent);
      for (const int32_t n : {1, 64, 65, 191, 257, 320, 1000, 4097}) {
        INFO("context " << n);
        CHECK(packed_error({128, 8, 2}, exact, {n}, rule, random) < kAttentionBound);
        CHECK(packed_error({128, 8, 2, 3, 3, 3, false}, exact, {n}, rule, random) < kAttentionBound);
      }
      for (const int dim : {64, 80, 96, 128, 256})
        CHECK(packed_error({dim, 14, 2, 3, 3, 4, true, true, 16}, exact, {777, 40}, rule, random) <
              kAttentionBound);
      CHECK(packed_error({128, 32, 2}, exact, {1000, 3, 130, 2049, 200}, rule, random) < kAttentionBound);
    }
  }
}
