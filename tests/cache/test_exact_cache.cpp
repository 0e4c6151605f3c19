#include "cache/exact_cache.h"

#include <cmath>
#include <random>
#include <set>

#include "base/float16.h"
#include "catch.h"
#include "samples.h"

using namespace blockgtq;

TEST_CASE("exact pages: every number has a place of its own", "[cache]") {
  for (const int dim : {64, 80, 96, 128, 256}) {
    std::set<int> places;
    for (int t = 0; t < kPagePositions; ++t)
      for (int d = 0; d < dim; ++d)
        for (const int place : {exact_key_place(dim, t, d), exact_value_place(dim, t, d)}) {
          REQUIRE(place >= 0);
          REQUIRE(2 * place < exact_block_bytes(dim));
          places.insert(place);
        }
    REQUIRE(int(places.size()) * 2 == exact_block_bytes(dim));
  }
  // A lane of a warp has its operand in 16 bytes: rows r and r + 8, columns 2 c and on, 2 c + 8 and on.
  const int lane = 4 * 5 + 2;
  CHECK(square_place(5, 4) == 8 * lane);
  CHECK(square_place(5, 5) == 8 * lane + 1);
  CHECK(square_place(13, 4) == 8 * lane + 2);
  CHECK(square_place(5, 12) == 8 * lane + 4);
  CHECK(square_place(13, 13) == 8 * lane + 7);
}

TEST_CASE("exact pages: a position comes back as fp16, its neighbours stay", "[cache]") {
  const int heads = 2, dim = 80, width = heads * dim, n = kPagePositions + 7;
  const ExactCache cache(heads, dim);
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> k(size_t(n) * width), v(k.size());
  for (float& x : k) x = normal(random);
  for (float& x : v) x = normal(random);
  std::vector<std::vector<uint8_t>> pages(2, std::vector<uint8_t>(cache.page_bytes(), 0xff));
  for (int i = 0; i < n; ++i) {
    const int t = (i * 37) % n;  // in any order
    cache.write(t, &k[size_t(t) * width], &v[size_t(t) * width], pages[t / kPagePositions].data());
  }
  const uint8_t* const list[] = {pages[0].data(), pages[1].data()};
  const PlainPositions x = cache.read(list, n);
  REQUIRE(x.k.size() == k.size());
  for (size_t i = 0; i < k.size(); ++i) {
    REQUIRE(x.k[i] == double(from_half(to_half(k[i]))));
    REQUIRE(x.v[i] == double(from_half(to_half(v[i]))));
  }
  std::vector<double> k_after(width), v_after(width);
  cache.read(n, list[1], k_after.data(), v_after.data());
  CHECK(std::isnan(k_after[0]));
  CHECK(std::isnan(v_after[width - 1]));
}

TEST_CASE("exact window: which positions are packed", "[cache]") {
  constexpr ExactWindow none, both{64, 128}, sink{64, 0}, recent{0, 100};
  CHECK(packed_end(none, 1000) == 1000);
  CHECK(exact_length(none, 1000) == 0);
  CHECK(packed_end(sink, 1000) == 1000);
  CHECK(exact_length(sink, 1000) == 64);
  CHECK(exact_length(sink, 40) == 40);
  CHECK(packed_end(recent, 1000) == 896);
  CHECK(exact_length(recent, 1000) == 104);
  for (int64_t n = 0; n < 1000; ++n) {
    const int64_t end = packed_end(both, n), exact = exact_length(both, n);
    REQUIRE(end % kPagePositions == 0);
    REQUIRE(exact + std::max<int64_t>(std::min(end, n) - 64, 0) == n);
    REQUIRE(exact >= std::min<int64_t>(n, 64 + 128));
    REQUIRE(exact < 64 + 128 + kPagePositions);
  }
}

TEST_CASE("exact window: attention over packed and exact positions is one softmax", "[cache]") {
  const test::CacheCase c{64, 4, 2, 2, 4, 4, true, true};
  const PackedCache packed(test::packed_spec(c, 5));
  const ExactCache exact(c.n_kv_heads, c.dim);
  const ExactWindow window{64, 70};
  const int n = 5 * kPagePositions + 3, width = c.n_kv_heads * c.dim;
  const int64_t end = packed_end(window, n), n_exact = exact_length(window, n);
  const test::Tokens tokens = test::random_tokens(packed.spec(), n, 6);
  std::vector<std::vector<uint8_t>> pages(6, std::vector<uint8_t>(packed.shape().bytes)),
      exact_pages(6, std::vector<uint8_t>(exact.page_bytes()));
  std::vector<const uint8_t*> list, exact_list;
  for (const auto& page : pages) list.push_back(page.data());
  for (const auto& page : exact_pages) exact_list.push_back(page.data());
  for (int64_t t = 0; t < n; ++t) {
    const float *k = &tokens.k[t * width], *v = &tokens.v[t * width];
    if (t >= window.sink && t < end) {
      packed.write(t, k, v, pages[t / kPagePositions].data());
    } else {
      const int64_t e = t < window.sink ? t : window.sink + t - end;
      exact.write(e, k, v, exact_pages[e / kPagePositions].data());
    }
  }
  std::vector<float> q(c.n_heads * c.dim);
  std::mt19937_64 random(9);
  std::normal_distribution<float> normal;
  for (float& x : q) x = normal(random);
  PlainPositions x = packed.read(list, window.sink, end);
  x.append(exact.read(exact_list, n_exact));
  REQUIRE(int64_t(x.k.size()) == int64_t(n) * width);
  std::vector<double> got(q.size()), want(q.size());
  attend(x, c.n_heads, 1, q.data(), 0.125, got.data());

  // The same positions where they belong.
  PlainPositions y{c.n_kv_heads, c.dim, std::vector<double>(x.k.size()), std::vector<double>(x.v.size())};
  for (int64_t t = 0; t < n; ++t)
    if (t >= window.sink && t < end)
      packed.read(t, list[t / kPagePositions], &y.k[t * width], &y.v[t * width]);
    else
      for (int i = 0; i < width; ++i) {
        y.k[t * width + i] = from_half(to_half(tokens.k[t * width + i]));
        y.v[t * width + i] = from_half(to_half(tokens.v[t * width + i]));
      }
  attend(y, c.n_heads, 1, q.data(), 0.125, want.data());
  for (size_t i = 0; i < got.size(); ++i) REQUIRE(got[i] == Approx(want[i]).epsilon(1e-12).margin(1e-12));
}
