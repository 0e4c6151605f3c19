#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "catch.h"
#include "quant/allocate.h"
#include "quant/bit_map.h"
#include "quant/random.h"
#include "quant/same_sums.h"
#include "quant/stats.h"

using namespace blockgtq;
using blockgtq::test::same;

namespace {

struct Activations {
  std::vector<float> q, k, v;  // (T, Hq, D), (T, H, D), (T, H, Dv)
};

AttentionShape shape_of(int v_dim = 6) {
  AttentionShape s;
  s.n_layers = 2;
  s.n_heads = 6;
  s.n_kv_heads = 2;
  s.v_dim = v_dim;
  s.layout = {12, 8, Pairing::half};
  s.ropes[0].inv_freq = s.ropes[0].inv_freq_raw = {1, 0.1, 0.01, 0.001};
  s.modules = {"model.layers.0.self_attn", "model.layers.1.self_attn"};
  return s;
}

Stats stats_of(const AttentionShape& shape, int64_t first_chunk = 0) {
  Stats s;
  s.shape = shape;
  s.first_chunk = first_chunk;
  s.signature = "signature";
  s.provenance = {{"model", "none"}};
  return s;
}

// One chunk's activations; they depend on layer and chunk alone.
Activations activations(const AttentionShape& s, int layer, int64_t chunk, int64_t n) {
  Random random(1000 * layer + chunk);
  Activations a;
  a.q.resize(n * s.n_heads * s.layout.head_dim);
  a.k.resize(n * s.n_kv_heads * s.layout.head_dim);
  a.v.resize(n * s.n_kv_heads * s.v_dim);
  for (auto* x : {&a.q, &a.k, &a.v})
    for (float& value : *x) value = float(random.standard_normal() * 3 + 1);
  return a;
}

void add(Stats& stats, int layer, int64_t chunk, int64_t n) {
  const Activations a = activations(stats.shape, layer, chunk, n);
  accumulate(stats, layer, chunk, n, a.q.data(), a.k.data(), stats.shape.v_dim ? a.v.data() : nullptr);
}

int64_t tokens_of(int64_t chunk) {
  return 5 + chunk % 3;
}

Stats run(int64_t first, int64_t count, bool by_layer = false) {
  Stats s = stats_of(shape_of(), first);
  if (by_layer) {
    for (int layer = 0; layer < 2; ++layer)
      for (int64_t c = first; c < first + count; ++c) add(s, layer, c, tokens_of(c));
  } else {
    for (int64_t c = first; c < first + count; ++c)
      for (int layer = 0; layer < 2; ++layer) add(s, layer, c, tokens_of(c));
  }
  return s;
}

void check_same(const Stats& a, const Stats& b) {
  CHECK(a.first_chunk == b.first_chunk);
  CHECK(a.chunk_tokens == b.chunk_tokens);
  REQUIRE(a.layers.size() == b.layers.size());
  for (size_t l = 0; l < a.layers.size(); ++l) {
    CHECK(a.layers[l].q2 == b.layers[l].q2);
    CHECK(a.layers[l].k2 == b.layers[l].k2);
    CHECK(a.layers[l].k_sum == b.layers[l].k_sum);
    CHECK(a.layers[l].v_sum == b.layers[l].v_sum);
    CHECK(same(a.layers[l].kk, b.layers[l].kk));
    CHECK(same(a.layers[l].vv, b.layers[l].vv));
  }
}

std::string message_of(std::vector<Stats> parts, const std::vector<std::string>& names) {
  try {
    merge(std::move(parts), names);
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("sums of one chunk against the definition") {
  // 7 tokens: one pass of four and three single ones in v v^T.
  const AttentionShape shape = shape_of();
  const int64_t n = 7;
  Stats stats = stats_of(shape);
  add(stats, 1, 0, n);
  const Activations a = activations(shape, 1, 0, n);
  const LayerStats& s = stats.layers[1];
  const int d = 12, dv = 6, group = 3, n_blocks = 6;
  REQUIRE(s.q2.size() == size_t(2 * n_blocks));
  REQUIRE(s.k_sum.size() == size_t(2 * d));
  REQUIRE(s.vv.total().size() == size_t(2 * dv * dv));
  CHECK(stats.layers[0].q2.empty());
  CHECK(stats.chunk_tokens == std::vector<int64_t>{n});
  for (int h = 0; h < 2; ++h) {
    for (int b = 0; b < n_blocks; ++b) {
      double q2 = 0, k2 = 0;
      for (int64_t t = 0; t < n; ++t)
        for (const int c : shape.layout.coords(b)) {
          for (int g = 0; g < group; ++g) q2 += std::pow(double(a.q[(t * 6 + h * group + g) * d + c]), 2);
          k2 += std::pow(double(a.k[(t * 2 + h) * d + c]), 2);
        }
      CHECK(s.q2[h * n_blocks + b] == Approx(q2).epsilon(1e-14));
      CHECK(s.k2[h * n_blocks + b] == Approx(k2).epsilon(1e-14));
    }
    for (int c = 0; c < d; ++c) {
      double sum = 0;
      for (int64_t t = 0; t < n; ++t) sum += a.k[(t * 2 + h) * d + c];
      CHECK(s.k_sum[h * d + c] == Approx(sum).epsilon(1e-13).margin(1e-13));
    }
    const auto kk = s.kk.total();
    REQUIRE(kk.size() == size_t(2 * d * d));
    for (int i = 0; i < d; ++i)
      for (int j = 0; j < d; ++j) {
        double moment = 0;
        for (int64_t t = 0; t < n; ++t) moment += double(a.k[(t * 2 + h) * d + i]) * a.k[(t * 2 + h) * d + j];
        CHECK(kk[(h * d + i) * d + j] == Approx(moment).epsilon(1e-13).margin(1e-12));
      }
    const auto vv = s.vv.total();
    for (int i = 0; i < dv; ++i) {
      double sum = 0;
      for (int64_t t = 0; t < n; ++t) sum += a.v[(t * 2 + h) * dv + i];
      CHECK(s.v_sum[h * dv + i] == Approx(sum).epsilon(1e-13).margin(1e-13));
      for (int j = 0; j < dv; ++j) {
        double moment = 0;
        for (int64_t t = 0; t < n; ++t)
          moment += double(a.v[(t * 2 + h) * dv + i]) * a.v[(t * 2 + h) * dv + j];
        CHECK(vv[(h * dv + i) * dv + j] == Approx(moment).epsilon(1e-13).margin(1e-12));
        CHECK(vv[(h * dv + i) * dv + j] == vv[(h * dv + j) * dv + i]);
      }
    }
  }
}

TEST_CASE("block energy: every query head of the group is a sample") {
  const Stats stats = run(0, 3);
  const int d = 12, group = 3;
  for (int layer = 0; layer < 2; ++layer)
    for (int h = 0; h < 2; ++h) {
      const auto energy = block_energy(stats, layer, h);
      REQUIRE(energy.size() == 6);
      for (int b = 0; b < 6; ++b) {
        double q2 = 0, k2 = 0;
        int64_t n = 0;
        for (int64_t chunk = 0; chunk < 3; ++chunk) {
          const Activations a = activations(stats.shape, layer, chunk, tokens_of(chunk));
          for (int64_t t = 0; t < tokens_of(chunk); ++t, ++n)
            for (const int c : stats.shape.layout.coords(b)) {
              for (int g = 0; g < group; ++g) q2 += std::pow(double(a.q[(t * 6 + h * group + g) * d + c]), 2);
              k2 += std::pow(double(a.k[(t * 2 + h) * d + c]), 2);
            }
        }
        CHECK(energy[b] == Approx((q2 / (n * group) + k2 / n) / 2).epsilon(1e-13));
      }
    }
  CHECK(stats.n_tokens() == 5 + 6 + 7);
}

TEST_CASE("order of layers and threads do not change a bit") {
  set_threads(1);
  const Stats one = run(3, 6);
  set_threads(4);
  check_same(one, run(3, 6));
  check_same(one, run(3, 6, true));
  set_threads(0);
}

TEST_CASE("without values") {
  Stats stats = stats_of(shape_of(0));
  add(stats, 0, 0, 4);
  CHECK(stats.layers[0].v_sum.empty());
  CHECK(stats.layers[0].vv.nodes().empty());
  Stats with = stats_of(shape_of());
  const Activations a = activations(with.shape, 0, 0, 4);
  CHECK_THROWS_AS(accumulate(with, 0, 0, 4, a.q.data(), a.k.data(), nullptr), std::logic_error);
}

TEST_CASE("chunks out of order and of two lengths are defects") {
  Stats stats = run(2, 1);
  CHECK_THROWS_AS(add(stats, 0, 2, tokens_of(2)), std::logic_error);
  CHECK_THROWS_AS(add(stats, 0, 4, tokens_of(4)), std::logic_error);
  add(stats, 0, 3, 5);
  CHECK_THROWS_AS(add(stats, 1, 3, 6), std::logic_error);
  CHECK_THROWS_AS(add(stats, 2, 3, 5), std::logic_error);
  CHECK_THROWS_AS(block_energy(stats, 0, 0), std::logic_error);  // layer 1 is one chunk behind
}

TEST_CASE("the first value that is not finite is named, and nothing is added") {
  struct Case {
    int input;  // q, k, v
    size_t at;
    const char* message;
  };
  // Widths: q 6 * 12, k 2 * 12, v 2 * 6. The run has 5 tokens before this chunk.
  const Case cases[] = {{0, 72 * 3 + 71, "layer 1: q_proj output: token 8: not finite"},
                        {1, 24 * 2, "layer 1: k_proj output: token 7: not finite"},
                        {2, 12 * 5 + 11, "layer 1: v_proj output: token 10: not finite"}};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()})
    for (const Case& c : cases) {
      Stats stats = run(0, 1);
      Activations a = activations(stats.shape, 1, 1, 6);
      std::vector<float>* inputs[] = {&a.q, &a.k, &a.v};
      inputs[c.input]->at(c.at) = bad;
      try {
        accumulate(stats, 1, 1, 6, a.q.data(), a.k.data(), a.v.data());
        FAIL("accepted");
      } catch (const Error& e) {
        CHECK(e.code == Exit::nonfinite);
        CHECK(std::string(e.what()) == c.message);
      }
      check_same(stats, run(0, 1));
    }
}

TEST_CASE("tokens left out at the start of a chunk are as if they were not there") {
  Stats counted = stats_of(shape_of()), rest = counted;
  for (int64_t c = 0; c < 3; ++c)
    for (int layer = 0; layer < 2; ++layer) {  // widths: q 6 * 12, k 2 * 12, v 2 * 6
      Activations a = activations(rest.shape, layer, c, tokens_of(c));
      accumulate(rest, layer, c, tokens_of(c) - 2, &a.q[2 * 72], &a.k[2 * 24], &a.v[2 * 12]);
      a.k[24] = std::numeric_limits<float>::quiet_NaN();  // nor looked at
      accumulate(counted, layer, c, tokens_of(c), a.q.data(), a.k.data(), a.v.data(), 2);
    }
  check_same(counted, rest);
  CHECK(counted.n_tokens() == 5 + 6 + 7 - 3 * 2);
  Activations a = activations(rest.shape, 0, 3, 5);
  a.v[3 * 12] = std::numeric_limits<float>::infinity();
  try {
    accumulate(counted, 0, 3, 5, a.q.data(), a.k.data(), a.v.data(), 2);
    FAIL("accepted");
  } catch (const Error& e) {
    CHECK(std::string(e.what()) == "layer 0: v_proj output: token 21: not finite");  // 5 + 6 + 7 before it
  }
}

TEST_CASE("the largest floats are finite") {
  Stats stats = stats_of(shape_of());
  Activations a = activations(stats.shape, 0, 0, 4);
  for (auto* x : {&a.q, &a.k, &a.v}) std::fill(x->begin(), x->end(), std::numeric_limits<float>::max());
  accumulate(stats, 0, 0, 4, a.q.data(), a.k.data(), a.v.data());
  CHECK(std::isfinite(stats.layers[0].vv.total()[0]));
}

TEST_CASE("merging any pieces in any order is the unbroken run, bit for bit") {
  const Stats whole = run(3, 11);
  check_same(merge({run(3, 11)}, {"a"}), whole);
  check_same(merge({run(3, 4), run(7, 7)}, {"a", "b"}), whole);
  check_same(merge({run(8, 6), run(3, 1), run(4, 4)}, {"a", "b", "c"}), whole);
  std::vector<Stats> singles;
  std::vector<std::string> names;
  for (int64_t c = 13; c >= 3; --c) {
    singles.push_back(run(c, 1));
    names.push_back(std::to_string(c));
  }
  const Stats merged = merge(std::move(singles), names);
  check_same(merged, whole);
  CHECK(merged.signature == whole.signature);
  CHECK(merged.provenance == whole.provenance);
  for (int h = 0; h < 2; ++h) CHECK(block_energy(merged, 1, h) == block_energy(whole, 1, h));
}

TEST_CASE("merged statistics know what of the run is missing") {
  const auto part = [](int64_t i, int64_t n, int64_t run_chunks = 10) {
    const ChunkRange chunks = part_chunks(i, n, 10);
    Stats stats = run(chunks.first, chunks.end - chunks.first);
    stats.run_chunks = run_chunks;
    stats.n_parts = run_chunks ? n : 0;
    return stats;
  };
  const std::vector<std::string> two = {"a.h5", "b.h5"};
  CHECK(part_number(part(3, 4)) == 3);
  const Stats half = merge({part(2, 4), part(3, 4)}, two);
  CHECK(part_number(half) == 0);
  CHECK(half.n_parts == 4);
  CHECK(missing_chunks(half) == "chunks 0 to 1 of 10 (part 1 of 4), chunks 7 to 9 of 10 (part 4 of 4)");
  CHECK(missing_chunks(merge({part(1, 3), part(2, 3)}, two)) == "chunks 6 to 9 of 10 (part 3 of 3)");
  CHECK(missing_chunks(part(9, 10)) ==
        "chunks 0 to 7 of 10 (parts 1 to 8 of 10), chunk 9 of 10 (part 10 of 10)");
  // Cut in two ways: chunks 5, 6 and 7 to 9.
  const Stats mixed = merge({merge({part(6, 10), part(7, 10)}, two), part(4, 4)}, two);
  CHECK(mixed.n_parts == 0);
  CHECK(missing_chunks(mixed) == "chunks 0 to 4 of 10");
  const Stats whole = merge({part(1, 2), mixed}, two);
  CHECK(missing_chunks(whole).empty());
  CHECK(whole.run_chunks == 10);
  CHECK(whole.n_parts == 1);
  require_complete(whole, "whole.h5", "");

  // A file of version 1 knows nothing; the others' knowledge holds.
  const Stats old = part(2, 2, 0);
  CHECK(missing_chunks(old) == "chunks 0 to 4");
  CHECK(merge({part(1, 2, 0), old}, two).run_chunks == 0);
  CHECK(merge({part(1, 2), old}, two).run_chunks == 10);
  CHECK(message_of({part(1, 2), part(2, 2, 9)}, two) == "b.h5: of a run of 9 chunks, 10 of a.h5 allowed");
  CHECK(message_of({part(1, 2, 8), old}, two) == "b.h5: 10 chunks found, 8 of the whole run allowed");
  try {
    require_complete(half, "half.h5", "a hint");
    FAIL("half a run was taken for all of it");
  } catch (const Error& e) {
    CHECK(e.code == Exit::input);
    CHECK(e.hint == "a hint");
    CHECK_THAT(e.what(), ContainsSubstring("half.h5: incomplete statistics: missing: chunks 0 to 1 of 10"));
  }
}

TEST_CASE("merge names the file that does not fit") {
  CHECK_THAT(message_of({run(0, 2), run(3, 2)}, {"a.h5", "b.h5"}),
             ContainsSubstring("b.h5: missing between a.h5 and this: chunk 2"));
  CHECK_THAT(message_of({run(1, 2), run(0, 2)}, {"a.h5", "b.h5"}),
             ContainsSubstring("a.h5: overlapping") && ContainsSubstring("after b.h5"));
  CHECK_THAT(message_of({run(0, 2), run(0, 2)}, {"a.h5", "b.h5"}), ContainsSubstring("b.h5: overlapping"));
  Stats foreign = run(2, 1);
  foreign.signature = "another";
  CHECK_THAT(message_of({run(0, 2), foreign}, {"a.h5", "b.h5"}),
             ContainsSubstring("b.h5: ") && ContainsSubstring("another found, signature of a.h5 allowed"));
  foreign.provenance = {{"corpus_sha256", "5678"}};
  CHECK(message_of({run(0, 2), foreign}, {"a.h5", "b.h5"}) ==
        "b.h5: statistics of another run than a.h5: corpus_sha256 '5678' found, '' allowed");
  CHECK_THAT(message_of({foreign, run(0, 2), run(3, 1)}, {"a.h5", "b.h5", "c.h5"}),  // two against one
             ContainsSubstring("a.h5: statistics of another run than b.h5: "));
  Stats longer = run(0, 2), shorter = run(2, 1);  // one signature: the text is the same
  longer.provenance = {{"tokens", "48"}};
  shorter.provenance = {{"tokens", "40"}};
  CHECK(message_of({longer, shorter}, {"a.h5", "b.h5"}) ==
        "b.h5: statistics of another run than a.h5: tokens '40' found, '48' allowed");
  Stats shaped = run(2, 1);
  shaped.shape.ropes[0].inv_freq[1] = 0.2;
  CHECK_THAT(message_of({run(0, 2), shaped}, {"a.h5", "b.h5"}),
             ContainsSubstring("b.h5: heads, RoPE or modules differ from those of a.h5"));
}

namespace {

std::string no_map(const Stats& stats) {
  try {
    make_bit_map(stats, {3});
  } catch (const Error& e) {
    CHECK(e.code == Exit::nonfinite);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a map that could not be read back is not made") {
  Stats stats = run(0, 4);
  REQUIRE(no_map(stats).empty());
  // Layer 1, KV head 1: six blocks, D = 12.
  const auto scaled = [&](std::vector<double> LayerStats::*member, int width, double factor) {
    Stats other = stats;
    std::vector<double>& sums = other.layers[1].*member;
    for (size_t row = 1; row * width < sums.size(); row += 2)
      for (int i = 0; i < width; ++i) sums[row * width + i] *= factor;
    return no_map(other);
  };
  CHECK_THAT(scaled(&LayerStats::q2, 6, 1e306), ContainsSubstring("layer 1: KV head 1: energy: inf found"));
  CHECK_THAT(scaled(&LayerStats::q2, 6, 1e300), ContainsSubstring("layer 1: KV head 1: k_forward: "));
  CHECK_THAT(scaled(&LayerStats::q2, 6, 1e-80), ContainsSubstring("layer 1: KV head 1: k_backward: "));
  CHECK_THAT(scaled(&LayerStats::k_sum, 12, 1e300),
             ContainsSubstring("layer 1: KV head 1: k_spectrum: nan found"));
  Stats loud = stats;
  for (auto* sums : {&loud.layers[0].q2, &loud.layers[0].k2})
    for (double& x : *sums) x *= 1e154;
  CHECK_THAT(no_map(loud), ContainsSubstring("layer 0: KV head 0: product score: inf found"));
}

TEST_CASE("under --compat reference blocks without energy get no bits") {
  Stats stats = run(0, 2);
  for (LayerStats& layer : stats.layers)
    for (auto* sums : {&layer.q2, &layer.k2})
      for (size_t i = 0; i < sums->size(); ++i)
        if (i % 6 != 2) (*sums)[i] = 0;
  const auto first_bits = [&] {
    const BitMap map = make_bit_map(stats, {3});
    const auto bits = map.head_bits(map.budgets[0], 0, 0);
    return std::vector<int>(bits.begin(), bits.end());
  };
  CHECK(first_bits() == std::vector<int>{6, 1, 8, 1, 1, 1});
  stats.provenance = {{"compat", "none"}};
  CHECK(first_bits() == std::vector<int>{6, 1, 8, 1, 1, 1});
  stats.provenance = {{"compat", "reference"}};
  CHECK(first_bits() == std::vector<int>{1, 1, 8, 1, 1, 1});
}

TEST_CASE("a bit map from statistics") {
  const Stats stats = run(0, 4);
  ShareSpec up_to_six;
  up_to_six.allocator.widths = width_range(1, 6);
  set_threads(1);
  const BitMap map = make_bit_map(stats, {3, 2, 2.5, 3}, up_to_six);
  set_threads(3);
  const BitMap again = make_bit_map(stats, {2, 2.5, 3}, up_to_six);
  set_threads(0);
  CHECK(map.shape == stats.shape);
  CHECK(map.signature == stats.signature);
  Provenance expected = stats.provenance;
  expected.emplace_back("calibration_tokens", std::to_string(stats.n_tokens()));
  CHECK(map.provenance == expected);
  CHECK(map.method == "block-gtq");
  CHECK(map.seed == 42);
  CHECK(map.min_bits == 1);
  CHECK(map.max_bits == 6);
  REQUIRE(map.budgets.size() == 3);  // ascending, each once
  REQUIRE(map.energy.size() == 2 * 2 * 6);
  CHECK(map.energy == again.energy);
  const double averages[] = {2, 2.5, 3};
  for (size_t i = 0; i < 3; ++i) {
    CHECK(map.budgets[i].average_bits == averages[i]);
    CHECK(map.budgets[i].bits == again.budgets[i].bits);
    CHECK(map.find(averages[i]) == &map.budgets[i]);
    for (int layer = 0; layer < 2; ++layer)
      for (int h = 0; h < 2; ++h) {
        const auto energy = block_energy(stats, layer, h);
        const auto stored = map.head_energy(layer, h);
        CHECK(std::vector<double>(stored.begin(), stored.end()) == energy);
        const auto bits = map.head_bits(map.budgets[i], layer, h);
        CHECK(std::vector<uint8_t>(bits.begin(), bits.end()) == allocate_greedy(energy, {averages[i], 1, 6}));
      }
  }
  CHECK(map.find(4) == nullptr);
  CHECK(map.find(0.1 + 2.4) == &map.budgets[1]);
  CHECK_THROWS_AS(map.head_energy(2, 0), std::logic_error);
  CHECK_THROWS_AS(map.head_bits(map.budgets[0], 0, 2), std::logic_error);
  CHECK_THROWS_AS(make_bit_map(stats, {9}), Error);
}
