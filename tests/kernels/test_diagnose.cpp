#include <cmath>

#include "eval/cuda_evaluate.h"
#include "uneven_keys.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

struct Shape {
  BlockLayout layout;
  int n_heads, n_kv_heads;
  int64_t n_tokens;
  int rotary_dim = -1;   // of the metric; -1: the layout's
  bool clipped = false;  // one key is longer than fp16 can say
};

EvalSpec make_spec(const Shape& s, const std::vector<double>& budgets, int n_widths, test::Random& random) {
  EvalSpec spec;
  spec.shape.n_layers = 2;
  spec.shape.n_heads = s.n_heads;
  spec.shape.n_kv_heads = s.n_kv_heads;
  spec.shape.layout = s.layout;
  const int rotary = s.rotary_dim < 0 ? s.layout.rotary_dim : s.rotary_dim;
  for (int i = 0; i < rotary / 2; ++i)
    spec.shape.ropes[0].inv_freq.push_back(std::pow(10000.0, -2.0 * i / rotary));
  spec.methods = {"tq-mse", "block-gtq"};
  for (const double average : budgets) {
    Budget budget{average, std::vector<uint8_t>(size_t(2) * s.n_kv_heads * s.layout.n_blocks())};
    for (uint8_t& b : budget.bits)
      b = uint8_t(n_widths == 1 ? std::lround(average) : 1 + random.below(n_widths));
    spec.budgets.push_back(std::move(budget));
  }
  return spec;
}

void check_case(const Shape& s, const std::vector<double>& budgets, int n_widths,
                const std::vector<std::string>& methods = {"tq-mse", "block-gtq"}) {
  test::Random random;
  INFO("seed " << random.seed);
  EvalSpec spec = make_spec(s, budgets, n_widths, random);
  spec.methods = methods;
  const int d = s.layout.head_dim;
  CudaEvaluator evaluator(spec);
  const cuda::Stream stream;
  std::vector<cuda::Buffer> arrays;  // until the stream is through
  std::vector<LayerResult> expected;
  for (int l : {1, 0}) {  // any order of layers
    const auto q = random.normal(s.n_tokens * s.n_heads * d);
    auto k = uneven_keys(random, s.n_tokens, s.n_kv_heads, d);
    const auto key = [&](int64_t t) { return k.begin() + t * s.n_kv_heads * d; };
    if (s.n_tokens > 5) std::fill_n(key(5), d, 0.0f);
    if (s.clipped) std::fill_n(key(s.n_tokens - 1), d, 50000.0f);
    const float* at_q = arrays.emplace_back(to_device(q, stream)).as<float>();
    const float* at_k = arrays.emplace_back(to_device(k, stream)).as<float>();
    evaluator.add_layer(l, at_q, at_k, s.n_tokens, stream.handle());
    expected.push_back(evaluate_layer(spec, l, q.data(), k.data(), s.n_tokens));
  }
  const std::vector<LayerResult> found = evaluator.finish();
  REQUIRE(found.size() == expected.size());
  bool any_clipped = false;
  for (size_t l = 0; l < found.size(); ++l) {
    CHECK(found[l].layer == expected[l].layer);
    REQUIRE(found[l].results.size() == expected[l].results.size());
    for (size_t i = 0; i < found[l].results.size(); ++i) {
      const MethodResult &f = found[l].results[i], &e = expected[l].results[i];
      CHECK(f.method == e.method);
      CHECK(f.bits == e.bits);
      CHECK(f.interpolated == e.interpolated);
      CHECK(f.bytes_per_token == e.bytes_per_token);
      CHECK(f.clipped == e.clipped);
      any_clipped |= f.clipped > 0;
      for (size_t h = 0; h < f.mae_per_kv_head.size(); ++h)
        CHECK(f.mae_per_kv_head[h] == Approx(e.mae_per_kv_head[h]).epsilon(1e-11));
      CHECK(f.mae == Approx(e.mae).epsilon(1e-11));
    }
  }
  CHECK(any_clipped == s.clipped);
}

}  // namespace

// Codes and errors are the same bits on both sides; up to 257 * 8 * 50 positive terms are added in float64 in
// another order: a relative difference of at most 1e5 * 2^-53 = 1e-11. One flipped code would show as 1e-6 or
// more.
TEST_CASE("the logit error on the GPU is the CPU's") {
  if (!has_device()) return;
  const Pairing half = Pairing::half, interleaved = Pairing::interleaved;
  check_case({{64, 64, half}, 4, 2, 257}, {2, 3, 4}, 5);
  check_case({{80, 80, interleaved}, 3, 1, 63}, {3}, 8);
  check_case({{96, 48, half}, 2, 2, 257}, {3}, 3);
  check_case({{128, 128, half}, 16, 2, 257}, {2.5, 3}, 5);
  check_case({{128, 64, interleaved}, 8, 2, 63}, {3}, 8);
  check_case({{256, 256, half}, 2, 1, 63}, {3}, 8);
  check_case({{64, 64, interleaved}, 16, 1, 33}, {1, 8}, 1);
  check_case({{128, 128, half}, 2, 2, 1}, {3}, 4);
  check_case({{66, 22, half}, 5, 1, 32}, {4}, 8);  // nothing here is a multiple of four
}

TEST_CASE("groups paired over the whole head, measured over the rotary part") {
  if (!has_device()) return;
  check_case({{128, 128, Pairing::half}, 4, 2, 63, 64}, {3}, 4);
}

TEST_CASE("norms that fp16 cannot say are counted on the GPU too") {
  if (!has_device()) return;
  check_case({{64, 64, Pairing::half}, 4, 2, 70, -1, true}, {2, 2.5}, 5, {"rtn", "tq-mse", "block-gtq"});
}

TEST_CASE("methods without a kernel are scored on the CPU, in their place among the others") {
  if (!has_device()) return;
  const Shape s{{64, 64, Pairing::half}, 4, 2, 70};
  check_case(s, {2.5, 3}, 5, {"rtn", "tq-mse", "kivi", "fp8", "block-gtq"});
  check_case(s, {3}, 5, {"turboquant-prod", "rtn"});
}

TEST_CASE("the logit error is the same from run to run") {
  if (!has_device()) return;
  const Shape s{{128, 128, Pairing::half}, 4, 2, 257};
  test::Random random;
  const EvalSpec spec = make_spec(s, {3}, 6, random);
  const cuda::Stream stream;
  const cuda::Buffer q = to_device(random.normal(257 * 4 * 128), stream),
                     k = to_device(uneven_keys(random, 257, 2, 128), stream);
  std::vector<double> first;
  for (int run = 0; run < 3; ++run) {
    CudaEvaluator evaluator(spec);
    evaluator.add_layer(0, q.as<float>(), k.as<float>(), 257, stream.handle());
    std::vector<double> maes;
    for (const LayerResult& layer : evaluator.finish())
      for (const MethodResult& r : layer.results)
        maes.insert(maes.end(), r.mae_per_kv_head.begin(), r.mae_per_kv_head.end());
    if (run == 0) first = maes;
    CHECK(maes == first);
  }
}
