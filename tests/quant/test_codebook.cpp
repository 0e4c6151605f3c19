#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/json.h"
#include "base/parallel.h"
#include "catch.h"
#include "quant/codebook.h"

using namespace blockgtq;

namespace {

constexpr double kTolerance = 1e-9;  // the iteration itself loses about 1e-12 at 8 bits

// E (x - nearest centroid)^2 for N(0, 1), from the moments of every cell.
double distortion(const std::vector<double>& c) {
  const auto cdf = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  const auto pdf = [](double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI); };
  double mse = 0;
  for (size_t i = 0; i < c.size(); ++i) {
    const double a = i == 0 ? -40 : 0.5 * (c[i - 1] + c[i]),
                 b = i + 1 == c.size() ? 40 : 0.5 * (c[i] + c[i + 1]);
    const double mass = cdf(b) - cdf(a), first = pdf(a) - pdf(b), second = mass + a * pdf(a) - b * pdf(b);
    mse += second - 2 * c[i] * first + c[i] * c[i] * mass;
  }
  return mse;
}

}  // namespace

TEST_CASE("codebooks are computed fast, by many threads at once") {
  const auto start = std::chrono::steady_clock::now();
  set_threads(4);
  parallel_for(64, [](size_t i) { normal_codebook(int(i % 8) + 1); });
  set_threads(0);
  // 5 ms alone; the bound leaves room for a busy machine and for sanitizers.
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 0.5);
}

// The published centroids above zero: scipy's Lloyd iteration from the quantile boundaries.
TEST_CASE("the published codebooks of one to four bits") {
  const std::vector<std::vector<double>> upper = {
      {0.7978845608028654},
      {0.453, 1.51},
      {0.24509398419972683, 0.756004749413445, 1.3439085529554868, 2.1519449883422366},
      {0.126046944800463, 0.3811782363360047, 0.6458753407565997, 0.9282446943806583, 1.239958996824577,
       1.6008024771642475, 2.05213800693606, 2.717667018736274}};
  for (int bits = 1; bits <= 4; ++bits) {
    const auto& book = normal_codebook(bits);
    REQUIRE(book.size() == size_t(1) << bits);
    const size_t half = book.size() / 2;
    for (size_t j = 0; j < half; ++j) CHECK(std::abs(book[half + j] - upper[bits - 1][j]) < kTolerance);
  }
}

TEST_CASE("spots of the published codebooks of five to eight bits") {
  struct Known {
    int bits, index;
    double value;
  };
  const Known known[] = {
      {5, 16, 0.04883932671740971},   {5, 24, 0.9832846323623561}, {5, 31, 3.072176376099244},
      {6, 32, 0.020164268043112752},  {6, 48, 0.7490549250953734}, {6, 63, 3.321770152121976},
      {7, 64, 0.009856328592750443},  {7, 96, 0.6944201413078461}, {7, 127, 3.5404175882978572},
      {8, 128, 0.004903677776219207}, {8, 192, 0.682409561671617}, {8, 254, 3.240047151188854},
      {8, 255, 3.7402309061895225}};
  for (const Known& k : known) CHECK(std::abs(normal_codebook(k.bits)[k.index] - k.value) < kTolerance);
}

TEST_CASE("every codebook is ascending, symmetric, without a zero") {
  for (int bits = 1; bits <= kMaxBits; ++bits) {
    const auto& book = normal_codebook(bits);
    REQUIRE(book.size() == size_t(1) << bits);
    for (size_t j = 0; j < book.size(); ++j) {
      CHECK(book[j] == -book[book.size() - 1 - j]);
      CHECK(book[j] != 0);
      if (j > 0) CHECK(book[j - 1] < book[j]);
    }
  }
}

// Lloyd-Max distortions; from 5 bits on 100 iterations do not reach them (2.504e-3 would be 5 bits' optimum).
TEST_CASE("the distortion of the codebooks") {
  const double expected[] = {0.3633802276324186,     0.11748193224403909,   0.03454776078853577,
                             0.009505757265888072,   0.0027811708959135433, 0.0010222830192836033,
                             0.00040545199336278854, 0.00016709990550167682};
  for (int bits = 1; bits <= kMaxBits; ++bits)
    CHECK(distortion(normal_codebook(bits)) == Approx(expected[bits - 1]).epsilon(1e-8));
}

TEST_CASE("bits outside 1..8 are a defect") {
  CHECK_THROWS_AS(normal_codebook(0), std::logic_error);
  CHECK_THROWS_AS(normal_codebook(9), std::logic_error);
}

TEST_CASE("every centroid against the published tables") {
  const Json known =
      read_json(std::filesystem::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/published.json", 1 << 20);
  for (int bits = 1; bits <= kMaxBits; ++bits) {
    const auto& book = normal_codebook(bits);
    const Json& expected = known["codebooks"][std::to_string(bits)];
    REQUIRE(book.size() == expected.size());
    for (size_t j = 0; j < book.size(); ++j)
      CHECK(std::abs(book[j] - expected[j].get<double>()) < kTolerance);
  }
}
