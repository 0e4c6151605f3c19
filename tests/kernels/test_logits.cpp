#include <cmath>

#include "device_arrays.h"
#include "eval/cuda_divergence.h"
#include "kernels/forward/logits.h"

using namespace blockgtq;
using namespace blockgtq::test;

TEST_CASE("divergence on the device is the host's") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t vocab : {1, 2, 31, 257, 49'152, 151'937}) {
    for (const float off : {0.0f, 1e-3f, 0.3f}) {
      INFO("vocabulary " << vocab << ", off by " << off);
      const int64_t n = 70, first = 13;
      const std::vector<float> exact = random.normal((n + first) * vocab, 4);
      std::vector<float> other(exact.begin() + first * vocab, exact.end());
      const std::vector<float> noise = random.normal(n * vocab, off);
      for (size_t i = 0; i < other.size(); ++i) other[i] += noise[i] + 5;  // a shift says nothing
      std::vector<int32_t> next;
      for (int64_t t = 0; t < n; ++t) next.push_back(t % 7 == 3 ? -1 : int32_t(random.below(vocab)));

      ExactLogits host;
      host.reset(n + first, vocab);
      host.set(0, n + first, exact.data());
      std::vector<TokenScore> want(static_cast<size_t>(n)), got(want);
      host.compare(first, n, other.data(), next.data(), want.data());

      CudaExactLogits device(n + first, vocab);
      const cuda::Buffer there = to_device(exact, stream), moved = to_device(other, stream);
      device.set(0, n + first, there.as<float>(), stream.handle());
      device.compare(first, n, moved.as<float>(), next.data(), got.data(), stream.handle());
      for (size_t t = 0; t < size_t(n); ++t) {
        CHECK(std::abs(got[t].kl - want[t].kl) <= 3e-6 * (1 + std::abs(want[t].kl)));
        CHECK(got[t].same_top == want[t].same_top);
        CHECK(std::isnan(got[t].nll) == std::isnan(want[t].nll));
        if (std::isnan(want[t].nll)) continue;
        CHECK(std::abs(got[t].nll - want[t].nll) <= 1e-6 * (1 + std::abs(want[t].nll)));
        CHECK(std::abs(got[t].exact_nll - want[t].exact_nll) <= 1e-6 * (1 + std::abs(want[t].exact_nll)));
      }
    }
  }
}

TEST_CASE("of equal logits the lowest id is the likeliest; factors and caps") {
  if (!has_device()) return;
  cuda::Stream stream;
  const int64_t vocab = 1000;
  std::vector<float> row(vocab, -3);
  row[900] = row[417] = row[640] = 2;
  const cuda::Buffer there = to_device(row, stream), sums = poisoned(sizeof(cuda::LogitSum), stream);
  cuda::sum_logits(there.as<float>(), 1, vocab, sums.as<cuda::LogitSum>(), stream);
  const cuda::LogitSum sum = to_host<cuda::LogitSum>(sums.as(), 1, stream)[0];
  CHECK(sum.top == 417);
  CHECK(sum.log_sum == Approx(std::log(3 * std::exp(2.0) + 997 * std::exp(-3.0))).epsilon(1e-7));

  cuda::finish_logits(there.as<float>(), vocab, 0.5f, 3, stream);
  const std::vector<float> capped = to_host<float>(there.as(), vocab, stream);
  CHECK(capped[417] == Approx(3 * std::tanh(1.0 / 3)).epsilon(1e-6));
  CHECK(capped[0] == Approx(3 * std::tanh(-0.5)).epsilon(1e-6));
}
