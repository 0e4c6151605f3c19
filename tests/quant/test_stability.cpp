#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "catch.h"
#include "quant/random.h"
#include "quant/stability.h"

using namespace blockgtq;

namespace {

// Two layers of one KV head: layer 0 has the same energies in every chunk, layer 1 others in every chunk.
Stats stats_of(int n_chunks) {
  Stats stats;
  AttentionShape& s = stats.shape;
  s.n_layers = 2;
  s.n_heads = 2;
  s.n_kv_heads = 1;
  s.layout = {16, 16, Pairing::half};
  s.ropes[0].inv_freq.assign(8, 1);
  s.ropes[0].inv_freq_raw = s.ropes[0].inv_freq;
  s.modules = {"a", "b"};
  stats.signature = "signature";
  const int64_t n = 4;
  Random random(7);
  for (int layer = 0; layer < 2; ++layer)
    for (int c = 0; c < n_chunks; ++c) {
      std::vector<float> q(n * 32), k(n * 16);
      for (size_t i = 0; i < q.size(); ++i) q[i] = float(1 + i % 8);
      for (size_t i = 0; i < k.size(); ++i) k[i] = float(1 + i % 8);
      if (layer == 1)
        for (float& x : k) x *= float(std::exp(2 * random.standard_normal()));
      accumulate(stats, layer, c, n, q.data(), k.data(), nullptr);
    }
  return stats;
}

}  // namespace

TEST_CASE("energies of chunks counted several times") {
  const Stats stats = stats_of(3);
  const std::vector<double> whole = block_energy(stats, 1, 0);
  CHECK(head_energy(stats, 1, 0, KeyForm::published).score == whole);
  CHECK(head_energy(stats, 1, 0, KeyForm::published, {{1, 1, 1}}).score == whole);
  const HeadEnergy twice = head_energy(stats, 1, 0, KeyForm::published, {{2, 2, 2}});
  for (size_t b = 0; b < whole.size(); ++b) CHECK(twice.score[b] == Approx(whole[b]).epsilon(1e-15));
  CHECK(head_energy(stats, 1, 0, KeyForm::published, {{1, 0, 0}}).k !=
        head_energy(stats, 1, 0, KeyForm::published, {{0, 1, 0}}).k);

  const HeadEnergy raw = head_energy(stats, 1, 0, KeyForm::published),
                   balanced = head_energy(stats, 1, 0, KeyForm::balanced);
  CHECK(balanced.q == balanced.k);
  for (size_t b = 0; b < whole.size(); ++b) {
    CHECK(balanced.score[b] == Approx(balanced.q[b] * balanced.k[b]).epsilon(1e-14));
    CHECK(balanced.score[b] < raw.q[b] * raw.k[b]);  // the mean is taken away
    CHECK(balanced.score[b] > 0);
  }
}

TEST_CASE("stability: none changes where every chunk is alike") {
  const Stats stats = stats_of(6);
  const Stability s = measure_stability(stats, KeyForm::published, ShareSpec{}, 6, 50, 1);
  REQUIRE(s.changed.size() == 2);
  CHECK(s.changed[0] == 0);
  CHECK(s.changed[1] > 0);
  REQUIRE(s.same.size() == 16);
  for (int b = 0; b < 8; ++b) CHECK(s.same[b] == 1);
  const auto layer1 = std::minmax_element(s.same.begin() + 8, s.same.end());
  CHECK(*layer1.first < 1);
  CHECK(*layer1.first >= 0);
  CHECK(*layer1.second <= 1);

  set_threads(1);
  const Stability again = measure_stability(stats, KeyForm::published, ShareSpec{}, 6, 50, 1);
  set_threads(0);
  CHECK(again.changed == s.changed);
  CHECK(again.same == s.same);
  CHECK(measure_stability(stats, KeyForm::published, ShareSpec{}, 6, 50, 2).same != s.same);
  CHECK(measure_stability(stats, KeyForm::published, ShareSpec{}, 6, 0, 1).same.empty());
  CHECK(measure_stability(stats_of(1), KeyForm::published, ShareSpec{}, 6, 5, 1).changed.empty());
}
