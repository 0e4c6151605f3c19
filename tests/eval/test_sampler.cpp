#include <algorithm>
#include <cmath>
#include <vector>

#include "catch.h"
#include "eval/sampler.h"

using namespace blockgtq;

namespace {

constexpr int kDraws = 20'000;

/// How often each token is drawn.
std::vector<double> shares(const Sampling& sampling, const std::vector<float>& logits) {
  Random random(7);
  std::vector<double> out(logits.size());
  for (int i = 0; i < kDraws; ++i) out[size_t(sample(sampling, logits, random))] += 1.0 / kDraws;
  return out;
}

void check_near(const std::vector<double>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO("token " << i << ": " << got[i] << " for " << want[i]);
    CHECK(std::abs(got[i] - want[i]) < 5 * std::sqrt(0.25 / kDraws));
    if (want[i] == 0) CHECK(got[i] == 0);
  }
}

}  // namespace

TEST_CASE("tokens are drawn in proportion, of the likeliest and of their share") {
  // shares 0.5, 0.1, 0.3, 0.1 at temperature 1
  const std::vector<float> logits = {std::log(5.0f), 0, std::log(3.0f), 0};
  check_near(shares({1, 0, 1}, logits), {0.5, 0.1, 0.3, 0.1});
  check_near(shares({1, 2, 1}, logits), {0.625, 0, 0.375, 0});
  check_near(shares({1, 3, 1}, logits), {5.0 / 9, 1.0 / 9, 3.0 / 9, 0});  // of equals the lower id
  check_near(shares({1, 0, 0.5}, logits), {1, 0, 0, 0});
  check_near(shares({1, 0, 0.51}, logits), {0.625, 0, 0.375, 0});
  check_near(shares({1, 2, 0.6}, logits), {1, 0, 0, 0});  // of what top_k leaves
  check_near(shares({0.5, 0, 1}, logits), {25.0 / 36, 1.0 / 36, 9.0 / 36, 1.0 / 36});
}

TEST_CASE("at temperature zero the likeliest, the lowest id of equals; the same seed, the same tokens") {
  Random random(1);
  CHECK(sample({}, std::vector<float>{-1, 4, 2, 4}, random) == 1);
  const std::vector<float> flat(100, 0);
  Random a(5), b(5);
  for (int i = 0; i < 50; ++i) CHECK(sample({1, 0, 1}, flat, a) == sample({1, 0, 1}, flat, b));
}
