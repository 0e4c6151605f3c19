#include "device_arrays.h"
#include "kernels/forward/attention.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

struct Shape {
  int64_t n, chunk, heads, group, dim, v_dim;
  int64_t window = 0;
  float softcap = 0;
  bool sinks = false, gate = false;
  int64_t past = 0;
};

/// Inputs with gaps between heads and tokens.
struct Inputs {
  Shape s;
  int64_t kv_heads, q_stride, k_stride, v_stride;
  std::vector<float> q, k, v, sinks, gate;  // gate (n, heads, v_dim + 3)

  Inputs(const Shape& shape, Random& random, float spread) : s(shape), kv_heads(shape.heads / shape.group) {
    q_stride = s.heads * (s.dim + 4) + 1;
    k_stride = kv_heads * (s.dim + 1);
    v_stride = kv_heads * (s.v_dim + 2) + 3;
    q = random.normal(s.n * q_stride, spread);
    k = random.normal((s.past + s.n) * k_stride);
    v = random.normal((s.past + s.n) * v_stride);
    if (s.sinks) sinks = random.normal(s.heads, 3);
    if (s.gate) gate = random.normal(s.n * s.heads * (s.v_dim + 3), 2);
  }
};

std::vector<double> twin(const Inputs& in, double scale) {
  const Shape& s = in.s;
  std::vector<double> out(size_t(s.n * s.heads * s.v_dim), 0);
  for (int64_t t = 0; t < s.n; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t chunk = t / s.chunk * s.chunk, kv = h / s.group, end = s.past + t;
      const int64_t start = s.window > 0 ? std::max(chunk, end - s.window + 1) : chunk;
      std::vector<double> p;
      for (int64_t j = start; j <= end; ++j) {
        double score = 0;
        for (int64_t i = 0; i < s.dim; ++i)
          score += double(in.q[size_t(t * in.q_stride + h * (s.dim + 4) + i)]) *
                   in.k[size_t(j * in.k_stride + kv * (s.dim + 1) + i)];
        score *= scale;
        p.push_back(s.softcap > 0 ? double(s.softcap) * std::tanh(score / double(s.softcap)) : score);
      }
      if (s.sinks) p.push_back(in.sinks[size_t(h)]);
      const double top = *std::max_element(p.begin(), p.end());
      double sum = 0;
      for (double& x : p) sum += x = std::exp(x - top);
      double* row = &out[size_t((t * s.heads + h) * s.v_dim)];
      for (int64_t j = start; j <= end; ++j)
        for (int64_t i = 0; i < s.v_dim; ++i)
          row[i] += p[size_t(j - start)] / sum * in.v[size_t(j * in.v_stride + kv * (s.v_dim + 2) + i)];
      if (!s.gate) continue;
      const float* gate = &in.gate[size_t((t * s.heads + h) * (s.v_dim + 3))];
      for (int64_t i = 0; i < s.v_dim; ++i) row[i] /= 1 + std::exp(-double(gate[i]));
    }
  }
  return out;
}

std::vector<float> run(const Inputs& in, float scale, cuda::FloatType type, const cuda::Stream& stream) {
  const Shape& s = in.s;
  const cuda::Buffer q = to_device(in.q, stream), k = to_device(in.k, stream), v = to_device(in.v, stream);
  const int64_t bytes = s.n * s.heads * s.v_dim * cuda::bytes_of(type);
  const cuda::Buffer out = poisoned(bytes, stream), sinks = to_device(in.sinks, stream),
                     gate = to_device(in.gate, stream);
  cuda::AttentionProblem problem;
  problem.n_tokens = s.n;
  problem.chunk = s.chunk;
  problem.past = s.past;
  problem.n_heads = s.heads;
  problem.group = s.group;
  problem.scale = scale;
  problem.dim = s.dim;
  problem.v_dim = s.v_dim;
  problem.q = {q.as<float>(), in.q_stride, s.dim + 4};
  problem.k = {k.as<float>(), in.k_stride, s.dim + 1};
  problem.v = {v.as<float>(), in.v_stride, s.v_dim + 2};
  problem.window = s.window;
  problem.softcap = s.softcap;
  if (s.sinks) problem.sinks = sinks.as<float>();
  if (s.gate) problem.gate = {gate.as<float>(), s.heads * (s.v_dim + 3), s.v_dim + 3};
  problem.out = out.as();
  problem.out_type = type;
  cuda::attention(problem, stream);
  return decode(to_host<unsigned char>(out.as(), bytes, stream), type);
}

}  // namespace

TEST_CASE("attention agrees with its twin for every head dimension, group and chunk") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  const Shape shapes[] = {
      {130, 64, 4, 2, 64, 64},    {65, 65, 2, 1, 80, 80},   {97, 33, 3, 3, 96, 96},
      {256, 256, 4, 4, 128, 128}, {70, 64, 2, 2, 256, 256}, {129, 128, 2, 1, 128, 64},
      {100, 100, 2, 1, 192, 128}, {1, 1, 1, 1, 128, 128},   {31, 200, 2, 2, 64, 64},
      {7, 2, 2, 1, 128, 128},     {90, 64, 4, 2, 8, 8},     {70, 50, 2, 1, 16, 6},
      {130, 65, 2, 2, 72, 72},    {80, 70, 2, 1, 30, 200},  {65, 64, 2, 1, 192, 192},
  };
  for (const Shape& s : shapes) {
    INFO("n " << s.n << ", chunk " << s.chunk << ", dim " << s.dim << ", v_dim " << s.v_dim);
    REQUIRE(cuda::attention_supported(s.dim, s.v_dim));
    const Inputs in(s, random, 1);
    const double scale = 1 / std::sqrt(double(s.dim));
    const std::vector<double> want = twin(in, scale);
    // A score sums dim <= 256 products: its error is some sqrt(dim) 2^-24 = 1e-6 of its size, which is below
    // 5, and an output's relative error is that of the scores.
    const std::vector<float> got = run(in, float(scale), cuda::FloatType::f32, stream);
    CHECK(distance(got, want) <= 5e-6);
    CHECK(run(in, float(scale), cuda::FloatType::f32, stream) == got);
    for (const cuda::FloatType type : {cuda::FloatType::bf16, cuda::FloatType::f16})
      CHECK(distance(run(in, float(scale), type, stream), want) <= 5e-6 + half_unit(type));
  }
}

TEST_CASE("attention to a single key in effect: scores of hundreds") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  const Inputs in({200, 200, 2, 1, 128, 128}, random, 100);
  // Scores of 100 sqrt(128) / sqrt(128) * 5 = 500 at most: an error of 1e-6 of them is 5e-4.
  CHECK(distance(run(in, float(1 / std::sqrt(128.0)), cuda::FloatType::f32, stream),
                 twin(in, 1 / std::sqrt(128.0))) <= 5e-4);
}

TEST_CASE("attention with windows, caps, sinks and gates agrees with its twin") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  const Shape shapes[] = {
      {200, 150, 4, 2, 64, 64, 1},
      {200, 200, 4, 2, 128, 128, 31},
      {300, 300, 2, 1, 96, 96, 32},
      {300, 300, 2, 1, 80, 80, 33},
      {260, 130, 2, 2, 256, 256, 100},
      {400, 400, 2, 1, 12, 12, 129},
      {100, 50, 2, 1, 64, 64, 1000},
      {150, 100, 4, 2, 64, 64, 0, 0, true},
      {150, 100, 4, 2, 64, 64, 7, 0, true},
      {150, 100, 4, 2, 128, 128, 0, 2},
      {150, 100, 4, 2, 256, 256, 20, 50},
      {150, 100, 4, 2, 72, 72, 65, 4, true, true},
      {150, 100, 4, 2, 256, 256, 0, 0, false, true},
      {70, 70, 2, 1, 16, 16, 9, 3, true, true},
  };
  for (const Shape& s : shapes) {
    INFO("n " << s.n << ", chunk " << s.chunk << ", dim " << s.dim << ", window " << s.window << ", cap "
              << s.softcap << (s.sinks ? ", sinks" : "") << (s.gate ? ", gate" : ""));
    const Inputs in(s, random, 2);
    const double scale = 1 / std::sqrt(double(s.dim));
    const std::vector<double> want = twin(in, scale);
    // As above with scores twice as large; a cap and a gate add a few roundings.
    const std::vector<float> got = run(in, float(scale), cuda::FloatType::f32, stream);
    CHECK(distance(got, want) <= 1e-5);
    CHECK(run(in, float(scale), cuda::FloatType::f32, stream) == got);
    for (const cuda::FloatType type : {cuda::FloatType::bf16, cuda::FloatType::f16})
      CHECK(distance(run(in, float(scale), type, stream), want) <= 1e-5 + half_unit(type));
  }
}

TEST_CASE("attention behind a past agrees with its twin") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t past : {1, 31, 32, 64, 200})
    for (const int64_t n : {1, 2, 64, 90})
      for (Shape s : {Shape{n, n, 4, 2, 64, 64}, Shape{n, n, 2, 1, 192, 128}, Shape{n, n, 2, 1, 30, 20},
                      Shape{n, n, 4, 2, 64, 64, 40, 0, true}, Shape{n, n, 2, 2, 72, 72, 33, 4, true, true}}) {
        s.past = past;
        INFO("n " << n << ", past " << past << ", dim " << s.dim << ", window " << s.window);
        const Inputs in(s, random, 1);
        const double scale = 1 / std::sqrt(double(s.dim));
        const std::vector<float> got = run(in, float(scale), cuda::FloatType::f32, stream);
        CHECK(distance(got, twin(in, scale)) <= 1e-5);
        CHECK(run(in, float(scale), cuda::FloatType::f32, stream) == got);
      }
}

TEST_CASE("keys outside every window are not read, and a sink may take all") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  Inputs in({256, 256, 1, 1, 64, 64, 16}, random, 1);
  const std::vector<float> want = run(in, 0.125f, cuda::FloatType::f32, stream);
  // Queries from 64 on see keys from 49 on, which the tile of keys from 32 on holds.
  for (int64_t t = 0; t < 32; ++t) in.v[size_t(t * in.v_stride)] = NAN;
  const std::vector<float> got = run(in, 0.125f, cuda::FloatType::f32, stream);
  CHECK(std::vector<float>(got.begin() + 64 * 64, got.end()) ==
        std::vector<float>(want.begin() + 64 * 64, want.end()));

  Inputs sunk({100, 100, 1, 1, 64, 64, 5, 0, true}, random, 1);
  sunk.sinks[0] = 1e30f;
  for (const float x : run(sunk, 0.125f, cuda::FloatType::f32, stream)) REQUIRE(x == 0);
}

TEST_CASE("head dimensions without a kernel") {
  CHECK(cuda::attention_supported(1, 256));
  CHECK_FALSE(cuda::attention_supported(257, 64));
  CHECK_FALSE(cuda::attention_supported(64, 512));
  CHECK_FALSE(cuda::attention_supported(64, 0));
}
