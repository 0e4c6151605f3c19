#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "base/parallel.h"
#include "catch.h"
#include "quant/rotation.h"
#include "worse.h"

using namespace blockgtq;
using test::worse;

namespace {

// Two backward-stable factorizations of one matrix differ by about d * 2^-53 times the conditioning of its
// leading columns; 1e-12 is two orders above what is seen at d = 128 and far below float32.
constexpr double kTolerance = 1e-12;

double at(const std::vector<double>& m, int d, int i, int j) {
  return m[size_t(i) * d + j];
}

}  // namespace

// numpy: default_rng(seed).standard_normal((d, d)), qr, columns times sign(diag R), first column negated if
// det < 0.
TEST_CASE("small rotations equal the published ones") {
  const std::vector<double> d2 = {0.38496311842719155, 0.922931957107788, -0.922931957107788,
                                  0.3849631184271918};
  const std::vector<double> d4 = {
      0.7765520965488242,  0.006293887255790437, 0.32631986242602806,  0.5389272452892828,
      0.44265895781912157, 0.6426248546310436,   -0.03456473686951968, -0.6244130221560562,
      0.20202093619012865, -0.6594132596272029,  0.4581238718357733,   -0.5607889196684352,
      -0.4002592032033473, 0.39008695981981767,  0.8261011708051252,   0.07198325933128241};
  for (const auto& [expected, seed] : {std::pair{d2, 43}, {d4, 44}}) {
    const auto m = haar_rotation(int(std::sqrt(double(expected.size()))), seed);
    REQUIRE(m.size() == expected.size());
    for (size_t i = 0; i < m.size(); ++i) CHECK(std::abs(m[i] - expected[i]) < kTolerance);
  }
  CHECK(haar_rotation(1, 42) == std::vector<double>{1});
}

TEST_CASE("corners and an inner entry of larger rotations") {
  struct Known {
    int d, seed;
    double entry[5];  // (0, 0), (0, d-1), (d/2, d/3), (d-1, 0), (d-1, d-1)
  };
  const Known known[] = {
      {8,
       42,
       {0.22942708539638246, -0.15684394151593253, -0.07478905016814505, -0.20715965386386995,
        0.35340002925220426}},
      {16,
       45,
       {0.18689224692334938, -0.3845884277983153, 0.17001241891052957, 0.18498263505240858,
        0.2031443057203055}},
      {30,
       44,
       {0.25561701472284915, 0.33853189514525667, -0.011638963553239606, -0.059437023446714615,
        -0.019120631299128308}},
      {64,
       42,
       {0.04019996434324824, -0.25092330374485533, 0.05556180941802627, 0.07747428231284947,
        -0.27348361370594726}},
      {90,
       45,
       {0.05003943696742952, -0.20208761938562966, 0.1219307447932118, 0.11960215512050663,
        -0.1422087346105051}},
      {128,
       42,
       {0.028260033972206333, 0.00574578814744437, -0.030870623779558178, 0.14105792985946775,
        0.11157258665728317}},
      {128,
       46,
       {0.04478321624317538, 0.041147160807233935, 0.08882734156687894, 0.03425281496014689,
        -0.0483191713082084}},
  };
  for (const Known& k : known) {
    INFO("d " << k.d << " seed " << k.seed);
    const auto m = haar_rotation(k.d, k.seed);
    const int last = k.d - 1;
    CHECK(std::abs(at(m, k.d, 0, 0) - k.entry[0]) < kTolerance);
    CHECK(std::abs(at(m, k.d, 0, last) - k.entry[1]) < kTolerance);
    CHECK(std::abs(at(m, k.d, k.d / 2, k.d / 3) - k.entry[2]) < kTolerance);
    CHECK(std::abs(at(m, k.d, last, 0) - k.entry[3]) < kTolerance);
    CHECK(std::abs(at(m, k.d, last, last) - k.entry[4]) < kTolerance);
  }
}

TEST_CASE("a rotation is orthogonal with determinant one") {
  // Every size a group can have up to 20, and odd ones: reflections even and odd in number.
  for (int d = 1; d <= 20; ++d) {
    for (const uint64_t seed : {42u, 43u, 50u}) {
      const auto m = haar_rotation(d, seed);
      double worst = 0;
      for (int i = 0; i < d; ++i)
        for (int j = 0; j < d; ++j) {
          double dot = 0;
          for (int k = 0; k < d; ++k) dot += at(m, d, k, i) * at(m, d, k, j);
          worst = worse(worst, std::abs(dot - (i == j)));
        }
      CHECK(worst < 1e-14 * d);
      // The determinant by elimination with pivoting, independent of how the rotation was made.
      auto a = m;
      double det = 1;
      for (int c = 0; c < d; ++c) {
        int pivot = c;
        for (int r = c + 1; r < d; ++r)
          if (std::abs(a[r * d + c]) > std::abs(a[pivot * d + c])) pivot = r;
        if (pivot != c) {
          for (int j = 0; j < d; ++j) std::swap(a[c * d + j], a[pivot * d + j]);
          det = -det;
        }
        det *= a[c * d + c];
        for (int r = c + 1; r < d; ++r) {
          const double f = a[r * d + c] / a[c * d + c];
          for (int j = c; j < d; ++j) a[r * d + j] -= f * a[c * d + j];
        }
      }
      CHECK(det == Approx(1).epsilon(1e-12));
    }
  }
}

TEST_CASE("shared rotations are computed once and rounded to float") {
  set_threads(4);
  std::vector<std::shared_ptr<const std::vector<float>>> seen(64);
  parallel_for(seen.size(), [&](size_t i) { seen[i] = shared_rotation(int(2 * (i % 8) + 2), 1234); });
  set_threads(0);
  for (size_t i = 0; i < seen.size(); ++i) {
    CHECK(seen[i] == seen[i % 8]);
    const auto exact = haar_rotation(int(2 * (i % 8) + 2), 1234);
    REQUIRE(seen[i]->size() == exact.size());
    for (size_t j = 0; j < exact.size(); ++j) CHECK((*seen[i])[j] == float(exact[j]));
  }
  CHECK(shared_rotation(4, 1) != shared_rotation(4, 2));
}

// golden/make_numpy_random.py: 12 seeds, 14 sizes, up to 8 entries spread over each matrix.
TEST_CASE("entries of 168 rotations") {
  const Json known =
      read_json(std::filesystem::path(BLOCKGTQ_SOURCE_DIR) / "tests/golden/numpy_random.json", 1 << 20);
  REQUIRE(known["rotations"].size() == 168);
  for (const Json& entry : known["rotations"]) {
    const int d = entry["d"];
    const auto m = haar_rotation(d, entry["seed"]);
    const auto at = entry["at"].get<std::vector<size_t>>();
    const auto expected = entry["rotation"].get<std::vector<double>>();
    REQUIRE(at.size() == size_t(std::min(d * d, 8)));
    REQUIRE(expected.size() == at.size());
    double worst = 0;
    for (size_t i = 0; i < at.size(); ++i) worst = worse(worst, std::abs(m.at(at[i]) - expected[i]));
    INFO("d " << d << " seed " << entry["seed"]);
    CHECK(worst < kTolerance);
  }
}
