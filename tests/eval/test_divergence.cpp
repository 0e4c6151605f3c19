#include <cmath>
#include <vector>

#include "catch.h"
#include "eval/divergence.h"
#include "quant/random.h"

using namespace blockgtq;

namespace {

std::vector<float> logs(const std::vector<double>& p, double shift) {
  std::vector<float> x;
  for (double v : p) x.push_back(float(std::log(v) + shift));
  return x;
}

TokenScore score(const std::vector<float>& exact, const std::vector<float>& other, int32_t next) {
  ExactLogits window;
  window.reset(1, int64_t(exact.size()));
  window.set(0, 1, exact.data());
  TokenScore s;
  window.compare(0, 1, other.data(), &next, &s);
  return s;
}

}  // namespace

// Logits are float32: an entry of size below 8 is off by at most 2^-22, and KL's derivative with respect to
// it is at most 1.
TEST_CASE("KL of known distributions") {
  const std::vector<double> p = {0.5, 0.25, 0.125, 0.125}, q = {0.25, 0.25, 0.25, 0.25};
  const double tolerance = 8 * std::ldexp(1.0, -22);
  // KL(p || q) = log 4 - H(p) = 2 log 2 - 1.75 log 2
  for (double shift : {0.0, -5.0, 4.0}) {
    const TokenScore s = score(logs(p, shift), logs(q, 0), 1);
    CHECK(std::abs(s.kl - 0.25 * std::log(2.0)) < tolerance);
    CHECK(std::abs(s.nll - 2 * std::log(2.0)) < tolerance);
    CHECK(std::abs(s.exact_nll - 2 * std::log(2.0)) < tolerance);
    CHECK(s.same_top);  // of four equal ones the first counts
  }
  // KL(q || p) = sum 0.25 log(0.25 / p)
  const TokenScore back = score(logs(q, 0), logs(p, 0), 0);
  CHECK(std::abs(back.kl - 0.25 * std::log(2.0)) < tolerance);
  CHECK(std::abs(back.nll - std::log(2.0)) < tolerance);
  CHECK_FALSE(score(logs({0.3, 0.7}, 0), logs({0.7, 0.3}, 0), 0).same_top);
}

TEST_CASE("the exact cache against itself is exactly nothing, and no next token is no likelihood") {
  Random random(7);
  std::vector<float> row(1001);
  for (float& x : row) x = float(8 * random.standard_normal());
  const TokenScore s = score(row, row, -1);
  CHECK(s.kl == 0);
  CHECK(s.same_top);
  CHECK(std::isnan(s.nll));
}

// Against the library's exp and log; logits far apart lose their small terms only. Sums of 1003 terms in
// float64, each to a few units in the last place: 1e-12 is a thousand times that.
TEST_CASE("log_sum_exp") {
  Random random(8);
  for (double scale : {1e-3, 1.0, 30.0, 1000.0}) {
    std::vector<float> row(1003);
    for (float& x : row) x = float(scale * random.standard_normal());
    double most = -1e300, sum = 0;
    for (float x : row) most = std::max(most, double(x));
    for (float x : row) sum += std::exp(double(x) - most);
    CHECK(std::abs(log_sum_exp(row.data(), 1003) - (most + std::log(sum))) < 1e-12 * (1 + std::abs(most)));
  }
}

TEST_CASE("quantiles lie between neighbours in rank") {
  const std::vector<double> x = {4, 1, 3, 2};
  CHECK(quantile(x, 0) == 1);
  CHECK(quantile(x, 0.5) == 2.5);
  CHECK(quantile(x, 1) == 4);
  CHECK(std::abs(quantile(x, 0.9) - 3.7) < 1e-15);
  CHECK(quantile({5}, 0.99) == 5);
  CHECK(std::isnan(quantile({}, 0.5)));
}

TEST_CASE("means, standard errors, and pairing with the exact cache") {
  // nll 1, 2, 3 against 1, 1.5, 2.5; the last position has no next token
  const double nan = std::nan("");
  const std::vector<TokenScore> scores = {
      {0.1, 1, 1, true}, {0.2, 2, 1.5, true}, {0.6, 3, 2.5, false}, {0.3, nan, nan, true}};
  const Quality q = summarize(scores);
  CHECK(q.n_tokens == 4);
  CHECK(q.n_predicted == 3);
  CHECK(std::abs(q.kl_mean - 0.3) < 1e-15);
  // variance of 0.1, 0.2, 0.6, 0.3 around 0.3: (0.04 + 0.01 + 0.09 + 0) / 3
  CHECK(std::abs(q.kl_error - std::sqrt(0.14 / 3 / 4)) < 1e-15);
  CHECK(q.kl_median == 0.25);
  CHECK(q.kl_max == 0.6);
  CHECK(q.same_top == 0.75);
  CHECK(std::abs(q.perplexity - std::exp(2.0)) < 1e-14);
  CHECK(std::abs(q.perplexity_error - std::exp(2.0) * std::sqrt(1.0 / 3)) < 1e-14);
  CHECK(std::abs(q.log_ratio - 1.0 / 3) < 1e-15);
  // differences 0, 0.5, 0.5: variance 1/12, of the mean 1/36
  CHECK(std::abs(q.log_ratio_error - 1.0 / 6) < 1e-15);
  CHECK(std::isnan(summarize(std::vector<TokenScore>{{0.1, 1, 1, true}}).kl_error));
}
