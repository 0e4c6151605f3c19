#include "model/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "catch.h"
#include "model/rotary.h"
#include "worse.h"

using namespace blockgtq;
using test::worse;

namespace {

std::vector<float> waves(size_t n, double step) {
  std::vector<float> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = float(std::sin(step * double(i) + 0.1 * double(i % 7)));
  return out;
}

/// The definition, in double precision, one query at a time.
void attention_reference(const AttentionProblem& p, std::vector<double>& out) {
  for (int64_t t = 0; t < p.n_tokens; ++t)
    for (int64_t h = 0; h < p.n_heads; ++h) {
      const int64_t chunk = t / p.chunk * p.chunk, kv = h / p.group;
      const int64_t start = p.window > 0 ? std::max(chunk, t - p.window + 1) : chunk;
      const int64_t recent = p.recent ? t + 1 - p.recent[t / p.chunk] : t + 1;  // from here on
      std::vector<double> weight;
      double total = p.sinks ? std::exp(double(p.sinks[h])) : 0;
      for (int64_t s = start; s <= t; ++s) {
        double dot = 0;
        const Heads& k = s >= recent ? p.recent_k : p.k;
        for (int64_t i = 0; i < p.q.dim; ++i)
          dot += double(p.q.data[t * p.q.stride + h * p.q.head_stride + i]) *
                 double(k.data[s * k.stride + kv * k.head_stride + i]);
        const double logit = dot * double(p.scale);
        total +=
            weight.emplace_back(std::exp(p.softcap > 0 ? p.softcap * std::tanh(logit / p.softcap) : logit));
      }
      for (int64_t i = 0; i < p.v.dim; ++i) {
        double sum = 0;
        for (int64_t s = start; s <= t; ++s) {
          const Heads& v = s >= recent ? p.recent_v : p.v;
          sum += weight[size_t(s - start)] * double(v.data[s * v.stride + kv * v.head_stride + i]);
        }
        out[size_t((t * p.n_heads + h) * p.v.dim + i)] = sum / total;
      }
    }
}

}  // namespace

TEST_CASE("attention is the softmax over a chunk's past, at the edges of its tiles") {
  struct Case {
    int64_t tokens, chunk, heads, group, dim, v_dim;
    int64_t window = 0;
    double softcap = 0;
    bool sinks = false;
    std::vector<int64_t> recent = {};  // of every chunk
  };
  const Case cases[] = {{1, 1, 1, 1, 2, 2},
                        {5, 5, 2, 2, 4, 3},
                        {63, 63, 2, 1, 16, 16},
                        {64, 64, 4, 2, 16, 8},
                        {65, 65, 2, 2, 16, 16},
                        {130, 129, 2, 1, 32, 8},
                        {200, 64, 4, 4, 8, 8},
                        {200, 70, 3, 1, 24, 20},
                        {40, 1, 2, 1, 8, 8},
                        // windows shorter than, at and beyond a tile and a chunk; caps; sinks
                        {200, 150, 2, 1, 16, 8, 1},
                        {200, 150, 2, 2, 16, 8, 63},
                        {200, 150, 4, 2, 16, 8, 64},
                        {200, 150, 2, 1, 16, 8, 65},
                        {200, 150, 2, 1, 16, 8, 150},
                        {200, 150, 2, 1, 16, 8, 1000},
                        {130, 130, 2, 1, 16, 8, 0, 2.5},
                        {130, 130, 4, 2, 16, 8, 0, 0, true},
                        {200, 150, 4, 2, 16, 8, 20, 2.5, true},
                        // recent positions: none in some chunk, its own only, at the edges of a tile, all
                        {200, 64, 2, 1, 16, 8, 0, 0, false, {0, 1, 63, 64}},
                        {400, 190, 4, 2, 16, 8, 0, 0, false, {64, 65, 2}},
                        {400, 190, 2, 1, 16, 8, 0, 0, false, {63, 190, 1000}},
                        {7, 7, 2, 1, 4, 2, 0, 0, false, {3}},
                        {130, 130, 2, 2, 16, 8, 0, 2.5, true, {40}},
                        {400, 190, 2, 1, 16, 8, 20, 0, false, {19, 20, 21}},
                        {400, 190, 2, 1, 16, 8, 100, 0, false, {1, 64, 99}},
                        {400, 190, 4, 2, 16, 8, 70, 2.5, true, {30, 0, 8}}};
  for (const Case& c : cases) {
    INFO(c.tokens << " tokens, chunks of " << c.chunk);
    AttentionProblem p;
    p.n_tokens = c.tokens;
    p.chunk = c.chunk;
    p.n_heads = c.heads;
    p.group = c.group;
    p.scale = 0.7f;
    p.window = c.window;
    p.softcap = c.softcap;
    const std::vector<float> sinks = {1.5f, -2.0f, 40.0f, 0.0f};  // a sink may outweigh every key
    if (c.sinks) p.sinks = sinks.data();
    // Rows with something between the heads, as in a fused buffer.
    const int64_t kv_heads = c.heads / c.group, q_stride = c.heads * (c.dim + 3),
                  k_stride = kv_heads * (c.dim + 1) + 2;
    const std::vector<float> q = waves(size_t(c.tokens * q_stride), 0.37),
                             k = waves(size_t(c.tokens * k_stride), 0.53);
    const std::vector<float> v = waves(size_t(c.tokens * kv_heads * c.v_dim), 0.91);
    p.q = {q.data(), q_stride, c.dim + 3, c.dim};
    p.k = {k.data(), k_stride, c.dim + 1, c.dim};
    p.v = {v.data(), kv_heads * c.v_dim, c.v_dim, c.v_dim};
    const std::vector<float> recent_k = waves(k.size(), 0.59), recent_v = waves(v.size(), 0.83);
    if (!c.recent.empty()) {
      p.recent = c.recent.data();
      p.recent_k = p.k;
      p.recent_k.data = recent_k.data();
      p.recent_v = p.v;
      p.recent_v.data = recent_v.data();
    }
    std::vector<float> out(size_t(c.tokens * c.heads * c.v_dim), std::nanf(""));
    std::vector<double> want(out.size());
    attention(p, out.data());
    attention_reference(p, want);
    double worst = 0;
    for (size_t i = 0; i < out.size(); ++i) worst = worse(worst, std::abs(double(out[i]) - want[i]));
    // Scores are at most 0.7 * 32 = 22, off by 32 * 2^-24 of that, 4e-5, which is the weights' relative
    // error; values are below 1.
    CHECK(worst < 1e-4);
  }
}

TEST_CASE("rotary tables and rotation, both pairings, static coordinates untouched") {
  for (const Pairing pairing : {Pairing::half, Pairing::interleaved}) {
    Config config;
    config.head_dim = 12;
    config.max_position = 64;
    config.rope.pairing = pairing;
    config.rope.rotary_dim = 8;
    config.rope.theta = 100;
    const RotaryTable table = rotary_table(config, 10);
    const BlockLayout layout = config.blocks();
    std::vector<float> x = waves(25 * 2 * 12, 0.3);
    const std::vector<float> before = x;
    rotate(table, x.data(), 25, 24, 2, 12, 10);
    for (int64_t t = 0; t < 25; ++t)
      for (int64_t h = 0; h < 2; ++h) {
        const float* from = before.data() + t * 24 + h * 12;
        const float* to = x.data() + t * 24 + h * 12;
        for (int b = 0; b < layout.n_blocks(); ++b) {
          const auto [i, j] = layout.coords(b);
          // The block is a complex number that is multiplied by e^(i theta_b position); static blocks by 1.
          const double angle = b < 4 ? double(t % 10) * std::pow(100.0, -2.0 * b / 8) : 0;
          CHECK(to[i] == Approx(from[i] * std::cos(angle) - from[j] * std::sin(angle)).margin(1e-6));
          CHECK(to[j] == Approx(from[j] * std::cos(angle) + from[i] * std::sin(angle)).margin(1e-6));
        }
      }
  }
}
