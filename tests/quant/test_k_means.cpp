#include "quant/k_means.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "catch.h"
#include "quant/random.h"

using namespace blockgtq;

TEST_CASE("clusters far apart are found, each at its mean") {
  constexpr int dim = 3, m = 4, per = 50;
  Random random(1);
  std::vector<float> x;
  std::vector<std::vector<double>> means(m, std::vector<double>(dim));
  for (int i = 0; i < per; ++i)
    for (int c = 0; c < m; ++c)
      for (int j = 0; j < dim; ++j) {
        x.push_back(float(100 * (c == j) + random.standard_normal()));
        means[c][j] += x.back() / double(per);
      }
  const std::vector<float> centres = k_means(x, dim, m);
  REQUIRE(centres.size() == dim * m);
  for (const auto& mean : means) {
    double nearest = INFINITY;
    for (int c = 0; c < m; ++c) {
      double distance = 0;
      for (int j = 0; j < dim; ++j) distance += std::pow(centres[c * dim + j] - mean[j], 2);
      nearest = std::min(nearest, distance);
    }
    CHECK(nearest < 1e-8);
  }
  CHECK(k_means(x, dim, m) == centres);
}

TEST_CASE("more centres than points repeat points") {
  const std::vector<float> x = {1, 2, 1, 2, 5, 6};
  const std::vector<float> centres = k_means(x, 2, 8);
  for (size_t c = 0; c < 8; ++c) {
    const bool first = centres[2 * c] == 1 && centres[2 * c + 1] == 2;
    const bool second = centres[2 * c] == 5 && centres[2 * c + 1] == 6;
    CHECK((first || second));
  }
}
