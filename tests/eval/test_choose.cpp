#include <cmath>
#include <stdexcept>
#include <vector>

#include "catch.h"
#include "eval/candidate.h"
#include "quant/random.h"

using namespace blockgtq;

namespace {

/// (T) KLs around `mean`, each position with noise of its own.
std::vector<double> scores(double mean, double noise, uint64_t seed, int n = 400) {
  Random random(seed);
  std::vector<double> kl;
  for (int t = 0; t < n; ++t) kl.push_back(mean + noise * random.standard_normal());
  return kl;
}

std::vector<double> times(std::vector<double> x, double factor) {
  for (double& v : x) v *= factor;
  return x;
}

}  // namespace

TEST_CASE("a KL at other bytes is worth 4 per bit and number") {
  CHECK(price(100, 100, 64) == 1);
  CHECK(price(108, 100, 64) == 4);   // 64 bits more for 64 numbers
  CHECK(price(96, 100, 64) == 0.5);  // half a bit less
  CHECK(price(116, 100, 64) == 16);  // two bits more
}

TEST_CASE("a clear win is taken, one within noise is not") {
  // 400 positions: noise of 0.02 each leaves 0.0014 on a difference of two means.
  const std::vector<double> reference = scores(0.10, 0.02, 1), lower = scores(0.09, 0.02, 2),
                            higher = scores(0.11, 0.02, 3);
  CHECK(choose(std::vector<Candidate>{{reference, 100}}, 64) == 0);
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {lower, 100}}, 64) == 1);
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {higher, 100}}, 64) == 0);
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {reference, 100}}, 64) == 0);

  // The difference alternates between -0.011 and 0.009: its mean is -0.001, its standard error
  // 0.01 / sqrt(n - 1). Two of those are above 0.001 for n = 400, below it for n = 402.
  const auto alternating = [](int n) {
    std::vector<double> kl;
    for (int t = 0; t < n; ++t) kl.push_back(0.1 + (t % 2 ? 0.009 : -0.011));
    return kl;
  };
  for (const int n : {400, 402}) {
    const std::vector<double> even(size_t(n), 0.1), other = alternating(n);
    CHECK(choose(std::vector<Candidate>{{even, 100}, {other, 100}}, 64) == size_t(n == 402));
  }
}

TEST_CASE("differences are paired: what positions have in common is no noise") {
  const std::vector<double> reference = scores(0.10, 0.09, 4), lower = times(reference, 0.99);
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {lower, 100}}, 64) == 1);
}

TEST_CASE("candidates are compared at equal bytes, each with what is chosen so far") {
  const std::vector<double> reference = scores(0.10, 0.01, 5), half = times(reference, 0.5),
                            eighth = times(reference, 0.125), third = times(reference, 0.3);
  // 64 numbers: 8 bytes are a bit, worth a factor of 4
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {half, 108}}, 64) == 0);    // 2 of the reference
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {eighth, 108}}, 64) == 1);  // half of it
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {times(reference, 2), 92}}, 64) == 1);
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {times(reference, 5), 92}}, 64) == 0);
  // 0.5 at the same bytes, then 4 * 0.125 = 0.5 at a bit more, which is no better, then 0.3
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {half, 100}, {eighth, 108}}, 64) == 1);
  CHECK(choose(std::vector<Candidate>{{reference, 100}, {half, 100}, {eighth, 108}, {third, 100}}, 64) == 3);
}

TEST_CASE("fewer than two positions decide nothing") {
  const std::vector<double> one = {1}, less = {0.1}, none;
  CHECK(choose(std::vector<Candidate>{{one, 100}, {less, 100}}, 64) == 0);
  CHECK(choose(std::vector<Candidate>{{none, 100}, {none, 100}}, 64) == 0);
  CHECK_THROWS_AS(choose(std::vector<Candidate>{}, 64), std::logic_error);
  CHECK_THROWS_AS(choose(std::vector<Candidate>{{one, 100}, {none, 100}}, 64), std::logic_error);
}
