// One token per sequence into its pages, against double precision and the CPU twins of the pages.
#include "../cache/samples.h"
#include "cache/cuda_cache.h"
#include "cache/exact_cache.h"
#include "kernels/cache/append_token.h"
#include "sequences.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

struct Shape {
  int dim = 128, n_heads = 6, n_kv_heads = 2;
  Pairing pairing = Pairing::half;
  int rotary = 128;
  bool normed = false;
  float factor = 1;  // on cosines and sines
  int all() const { return n_heads + 2 * n_kv_heads; }
};

constexpr int kBatch = 3, kLength = 200;
const std::vector<int32_t> kPositions = {0, 199, 77};

/// A step of random projections and what becomes of them, in double precision. Angles are those of `spec`.
struct Step {
  Step(const Shape& s, const std::vector<double>& inv_freq, Random& random)
      : shape(s),
        projected(random.normal(int64_t(kBatch) * s.all() * s.dim)),
        q_norm(random.normal(s.dim)),
        k_norm(random.normal(s.dim)) {
    const int blocks = s.rotary / 2;
    for (int t = 0; t < kLength; ++t)
      for (int i = 0; i < blocks; ++i) {
        cos.push_back(float(std::cos(t * inv_freq[size_t(i)]) * s.factor));
        sin.push_back(float(std::sin(t * inv_freq[size_t(i)]) * s.factor));
      }
  }
  /// Head h (queries, keys, values) of sequence b.
  std::vector<double> head(int b, int h) const {
    const int dim = shape.dim, blocks = shape.rotary / 2;
    const float* const from = &projected[size_t(b * shape.all() + h) * size_t(dim)];
    std::vector<double> x(from, from + dim);
    if (h >= shape.n_heads + shape.n_kv_heads) return x;
    double sum = 0;
    for (const double v : x) sum += v * v;
    const auto& norm = h < shape.n_heads ? q_norm : k_norm;
    for (int d = 0; d < dim && shape.normed; ++d)
      x[size_t(d)] *= (1.0 + norm[size_t(d)]) / std::sqrt(sum / dim + 1e-6);
    const BlockLayout layout{dim, shape.rotary, shape.pairing};
    for (int i = 0; i < blocks; ++i) {
      const auto [first, second] = layout.coords(i);
      const size_t at = size_t(kPositions[size_t(b)] * blocks + i);
      const double p = x[size_t(first)], r = x[size_t(second)];
      x[size_t(first)] = p * cos[at] - r * sin[at];
      x[size_t(second)] = r * cos[at] + p * sin[at];
    }
    return x;
  }
  /// Keys and values get their means (values with centres: one of them) as what the projections give, but for
  /// the first sequence's, which are small: those keep their mean in pages.
  void centre(const PackedSpec& spec) {
    const BlockLayout layout{shape.dim, shape.rotary, shape.pairing};
    std::vector<float> factor(size_t(shape.dim), 1.0f);  // what turning does to a length
    for (int i = 0; i < shape.rotary / 2; ++i)
      for (const int d : layout.coords(i)) factor[size_t(d)] = shape.factor;
    for (int b = 0; b < kBatch; ++b)
      for (int h = shape.n_heads; h < shape.all(); ++h) {
        const bool keys = h < shape.n_heads + shape.n_kv_heads;
        const LinearCode& code = (keys ? spec.key : spec.value)[size_t(h - shape.n_heads) % spec.key.size()];
        const float* const mean =
            code.centres.empty() ? code.mean.data() : &code.centres[size_t(b * shape.dim)];
        float* const x = &projected[size_t(b * shape.all() + h) * size_t(shape.dim)];
        for (int d = 0; d < shape.dim; ++d)
          x[d] = b == 0 ? 0.3f * x[d] : (x[d] + mean[d]) / (keys ? factor[size_t(d)] : 1.0f);
      }
  }
  Shape shape;
  std::vector<float> projected, q_norm, k_norm, cos, sin;
};

/// The step's arrays on the device.
struct OnDevice {
  OnDevice(const Step& s, const cuda::Stream& stream)
      : projected(to_device(s.projected, stream)),
        q_norm(to_device(s.q_norm, stream)),
        k_norm(to_device(s.k_norm, stream)),
        cos(to_device(s.cos, stream)),
        sin(to_device(s.sin, stream)),
        positions(to_device(kPositions, stream)),
        q(poisoned(int64_t(kBatch) * s.shape.n_heads * s.shape.dim * 2, stream)) {
    job.batch = kBatch;
    job.n_heads = s.shape.n_heads;
    job.n_kv_heads = s.shape.n_kv_heads;
    job.dim = s.shape.dim;
    job.projected = projected.as<float>();
    if (s.shape.normed) job.q_norm = q_norm.as<float>(), job.k_norm = k_norm.as<float>();
    job.norm_offset = 1;
    job.norm_eps = 1e-6f;
    job.rope = {{s.shape.dim, s.shape.rotary, s.shape.pairing}, kLength, cos.as<float>(), sin.as<float>()};
    job.rope_factor = s.shape.factor;
    job.positions = positions.as<int32_t>();
    job.q = q.as();
  }
  cuda::Buffer projected, q_norm, k_norm, cos, sin, positions, q;
  cuda::AppendToken job;
};

std::vector<double> angles(int rotary) {
  std::vector<double> inv_freq;
  for (int i = 0; i < rotary / 2; ++i) inv_freq.push_back(std::pow(1e4, -2.0 * i / rotary));
  return inv_freq;
}

}  // namespace

TEST_CASE("one token: queries, and keys and values into pages of fp16", "[append]") {
  if (!has_device()) return;
  const cuda::Stream stream;
  for (const Pairing pairing : {Pairing::half, Pairing::interleaved})
    for (const int dim : {64, 80, 96, 128, 256})
      for (const bool normed : {false, true}) {
        Random random;
        CAPTURE(random.seed, int(pairing), dim, normed);
        const Shape shape{dim, 6, 2, pairing, dim / 2, normed};
        const Step step(shape, angles(shape.rotary), random);
        OnDevice device(step, stream);
        const ExactCache cache(2, dim);
        const Sequences sequences = make_sequences(std::vector<int32_t>(kBatch, kLength), random);
        const std::vector<uint8_t> before(size_t(sequences.n_pages * cache.page_bytes()), 0xff);
        const cuda::Buffer pages = to_device(before, stream), table = to_device(sequences.table, stream);
        device.job.exact_pages = pages.as<uint8_t>();
        device.job.exact = {pages.as<uint8_t>(), table.as<int32_t>(), sequences.stride, nullptr};
        device.job.exact_starts = device.positions.as<int32_t>();
        const int64_t width = int64_t(kBatch) * 2 * dim;
        const cuda::Buffer k_out = poisoned(width * 2, stream), v_out = poisoned(width * 2, stream);
        device.job.k = k_out.as();
        device.job.v = v_out.as();
        cuda::append_token(device.job, stream);
        const auto halves = [&](const cuda::Buffer& x) {
          return decode(to_host<unsigned char>(x.as(), width * 2, stream), cuda::FloatType::f16);
        };
        const std::vector<float> k_beside = halves(k_out), v_beside = halves(v_out);
        const auto q = decode(to_host<unsigned char>(device.q.as(), int64_t(kBatch) * 6 * dim * 2, stream),
                              cuda::FloatType::f16);
        const auto got = to_host<uint8_t>(pages.as(), int64_t(before.size()), stream);
        // fp16's rounding, and float32 sums of products of size 1.
        const auto near = [](double a, double b) { return std::abs(a - b) <= 0x1p-11 * std::abs(b) + 4e-6; };
        std::vector<uint8_t> undone = got;
        for (int b = 0; b < kBatch; ++b) {
          const auto list = pages_of(sequences, got, b, cache.page_bytes());
          const int t = kPositions[size_t(b)];
          std::vector<double> k(size_t(2 * dim)), v(k);
          cache.read(t, list[size_t(t / kPagePositions)], k.data(), v.data());
          REQUIRE(std::equal(k.begin(), k.end(), k_beside.begin() + b * 2 * dim));
          REQUIRE(std::equal(v.begin(), v.end(), v_beside.begin() + b * 2 * dim));
          for (int h = 0; h < shape.all(); ++h) {
            const std::vector<double> want = step.head(b, h);
            for (int d = 0; d < dim; ++d)
              REQUIRE(near(h < 6   ? q[size_t((b * 6 + h) * dim + d)]
                           : h < 8 ? k[size_t((h - 6) * dim + d)]
                                   : v[size_t((h - 8) * dim + d)],
                           want[size_t(d)]));
          }
          const std::vector<float> nan(size_t(2 * dim), std::nanf(""));
          cache.write(t, nan.data(), nan.data(),
                      &undone[size_t(sequences.table[size_t(b * sequences.stride + t / kPagePositions)] *
                                     cache.page_bytes())]);
        }
        // Nothing else was written: where the token went, NaN of other bits than those of before.
        int64_t different = 0;
        for (size_t i = 0; i < got.size(); i += 2)
          different += undone[i] != before[i] || undone[i + 1] != before[i + 1];
        CHECK(different == int64_t(kBatch) * 4 * dim);
      }
}

TEST_CASE("one token into packed pages is what the CPU twin writes", "[append]") {
  if (!has_device()) return;
  const cuda::Stream stream;
  for (const CacheCase& base :
       {CacheCase{128, 6, 2, 1, 3, 3}, CacheCase{128, 6, 2, 5, 3, 2}, CacheCase{64, 6, 2, 1, 2, 4},
        CacheCase{96, 6, 2, 3, 4, 5}, CacheCase{256, 6, 2, 6, 4, 3}, CacheCase{80, 6, 2, 1, 8, 1},
        CacheCase{128, 6, 2, 1, 3, 3, true, true, 0, false, 64},
        CacheCase{256, 6, 2, 3, 3, 4, true, true, 0, false, 4},
        CacheCase{80, 6, 2, 1, 3, 5, true, true, 0, false, 16}})
    for (const bool one_norm : {true, false})
      for (const bool centred : {false, true}) {
        CacheCase c = base;
        c.one_norm = one_norm;
        c.centred = centred;
        Random random;
        CAPTURE(random.seed, c.dim, c.groups, c.bits, c.value_bits, one_norm, centred);
        const PackedSpec spec = packed_spec(c, random.seed);
        const PackedCache twin(spec);
        const Shape shape{
            c.dim, 6, 2, spec.layout.pairing, spec.layout.rotary_dim, false, centred ? 1.25f : 1.0f};
        Step step(shape, spec.inv_freq, random);
        if (centred) step.centre(spec);
        OnDevice device(step, stream);
        const CudaCache cache(spec, kLength, stream);
        const Sequences sequences = make_sequences(std::vector<int32_t>(kBatch, kLength), random);
        const int64_t page_bytes = twin.shape().bytes;
        const std::vector<uint8_t> before = random_pages(twin, sequences.n_pages, random);
        const cuda::Buffer pages = to_device(before, stream), table = to_device(sequences.table, stream);
        device.job.layer = &cache.layer();
        device.job.append = &cache.appender();
        device.job.packed_pages = pages.as<uint8_t>();
        device.job.packed = {pages.as<uint8_t>(), table.as<int32_t>(), sequences.stride, nullptr};
        cuda::append_token(device.job, stream);
        const auto got = to_host<uint8_t>(pages.as(), int64_t(before.size()), stream);
        std::vector<uint8_t> want = before;
        double off = 0, size = 0;
        for (int b = 0; b < kBatch; ++b) {
          std::vector<float> k, v;
          for (int h = 6; h < 10; ++h)
            for (const double x : step.head(b, h)) (h < 8 ? k : v).push_back(float(x));
          const int t = kPositions[size_t(b)];
          const size_t page = size_t(sequences.table[size_t(b * sequences.stride + t / kPagePositions)]);
          twin.write(t, k.data(), v.data(), &want[page * size_t(page_bytes)]);
          std::vector<double> read[2][2];
          for (int i = 0; i < 2; ++i) {
            for (auto& side : read[i]) side.resize(k.size());
            twin.read(t, &(i ? want : got)[page * size_t(page_bytes)], read[i][0].data(), read[i][1].data());
          }
          for (int side = 0; side < 2; ++side)
            for (size_t i = 0; i < k.size(); ++i) {
              off += std::pow(read[0][side][i] - read[1][side][i], 2);
              size += std::pow(read[1][side][i], 2);
            }
          // The other positions of the page are as they were.
          for (int other = t / kPagePositions * kPagePositions;
               other < (t / kPagePositions + 1) * kPagePositions; ++other) {
            if (other == t) continue;
            std::vector<double> a[2], z[2];
            for (auto* x : {a, z})
              for (int side = 0; side < 2; ++side) x[side].resize(k.size());
            twin.read(other, &got[page * size_t(page_bytes)], a[0].data(), a[1].data());
            twin.read(other, &before[page * size_t(page_bytes)], z[0].data(), z[1].data());
            REQUIRE(a[0] == z[0]);
            REQUIRE(a[1] == z[1]);
          }
        }
        // F is rounded to fp16: a coordinate is off by 2e-4 of its size (root mean square), and a code flips
        // where a boundary lies that near, by a step of a whole coordinate at two bits: one of 64 in one of
        // twelve vectors is 0.036 of all, and five of them are allowed for.
        CHECK(std::sqrt(off / size) < 0.08);
        int64_t bits = 0;
        for (size_t i = 0; i < got.size(); ++i) bits += std::popcount(unsigned(got[i] ^ want[i]));
        CHECK(bits < 40);  // of some thousand: flipped codes, and last bits of norms
      }
}
