// Metrics at real positions against a plain twin in double precision.
#include <algorithm>
#include <cmath>
#include <complex>
#include <numeric>

#include "base/parallel.h"
#include "catch.h"
#include "eval/attention_error.h"
#include "quant/random.h"

using namespace blockgtq;

namespace {

struct Case {
  BlockLayout layout;
  int n_tokens, group;
  int64_t chunk;
  double attention_factor = 1;
  double scale = 0;
  int window = 0;
  int64_t recent = 0;
};

/// Random activations with strides wider than they need be, and what two quantizers left of them.
struct Sample {
  Case shape;
  RealAttention attention;
  std::vector<float> q, k, v, noisy_k, noisier_k, noisy_v;
  HeadActivations head;
  int v_dim = 12;

  explicit Sample(const Case& c, uint64_t seed = 7) : shape(c) {
    const int d = c.layout.head_dim;
    attention = {c.layout, {}, c.attention_factor, c.scale, c.window};
    for (int i = 0; i < c.layout.n_rotary(); ++i)
      attention.inv_freq.push_back(std::pow(10000.0, -2.0 * i / c.layout.rotary_dim));
    Random random(seed);
    auto fill = [&](std::vector<float>& x, size_t n) {
      x.resize(n);
      for (float& value : x) value = float(random.standard_normal());
    };
    head.q_stride = (c.group + 1) * d, head.k_stride = 2 * d, head.v_stride = v_dim + 3;
    fill(q, c.n_tokens * head.q_stride);
    fill(k, c.n_tokens * head.k_stride);
    fill(v, c.n_tokens * head.v_stride);
    auto near = [&](const std::vector<float>& x, int64_t stride, int width, double noise) {
      std::vector<float> out;
      for (int t = 0; t < c.n_tokens; ++t)
        for (int j = 0; j < width; ++j)
          out.push_back(float(x[t * stride + j] + noise * random.standard_normal()));
      return out;
    };
    noisy_k = near(k, head.k_stride, d, 0.2);
    noisier_k = near(k, head.k_stride, d, 0.5);
    noisy_v = near(v, head.v_stride, v_dim, 0.3);
    head.q = q.data(), head.k = k.data(), head.v = v.data();
    head.group = c.group, head.v_dim = v_dim, head.n_tokens = c.n_tokens;
  }
};

std::vector<double> rope(const RealAttention& attention, const float* x, int position) {
  std::vector<double> y(x, x + attention.layout.head_dim);
  for (int b = 0; b < attention.layout.n_rotary(); ++b) {
    const auto [i, j] = attention.layout.coords(b);
    const std::complex<double> turned =
        std::complex<double>(x[i], x[j]) *
        std::polar(attention.attention_factor, position * attention.inv_freq[b]);
    y[i] = turned.real();
    y[j] = turned.imag();
  }
  return y;
}

std::vector<double> softmax(const std::vector<double>& l) {
  std::vector<double> p;
  double sum = 0;
  for (const double x : l) sum += p.emplace_back(std::exp(x - *std::max_element(l.begin(), l.end())));
  for (double& x : p) x /= sum;
  return p;
}

/// The indices of the 8 largest; `gap` is how far the ninth is below the eighth, the least of all calls.
std::vector<int> largest(const std::vector<double>& l, double& gap) {
  std::vector<int> order(l.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) { return l[a] > l[b]; });
  gap = std::min(gap, l[order[kTopK - 1]] - l[order[kTopK]]);
  order.resize(kTopK);
  std::sort(order.begin(), order.end());
  return order;
}

/// One chunk by the definitions.
AttentionSums twin(const Sample& s, int64_t first, int64_t length, const float* k_hat, const float* v_hat,
                   double& gap) {
  AttentionSums sums;
  const HeadActivations& h = s.head;
  const int d = s.shape.layout.head_dim;
  auto add = [](ChunkSum& to, double x) { to.sum += x, to.count += 1; };
  for (int64_t i = 0; i < length; ++i)
    for (int g = 0; g < h.group; ++g) {
      const auto q = rope(s.attention, h.q + (first + i) * h.q_stride + g * d, int(i));
      std::vector<double> l, l_hat;
      const int window = s.attention.window;
      const int64_t lo = window > 0 ? std::max<int64_t>(0, i + 1 - window) : 0;
      const double scale = s.attention.scale != 0 ? s.attention.scale : 1 / std::sqrt(d);
      for (int64_t j = lo; j <= i; ++j) {
        const auto k = rope(s.attention, h.k + (first + j) * h.k_stride, int(j));
        const bool recent = j > i - s.shape.recent;
        const auto restored = recent ? k : rope(s.attention, k_hat + (first + j) * d, int(j));
        l.push_back(std::inner_product(q.begin(), q.end(), k.begin(), 0.0) * scale);
        l_hat.push_back(std::inner_product(q.begin(), q.end(), restored.begin(), 0.0) * scale);
      }
      const auto p = softmax(l), p_hat = softmax(l_hat);
      double weighted = 0, kl = 0, size = 0, difference = 0;
      for (size_t j = 0; j < p.size(); ++j) {
        weighted += p[j] * std::abs(l[j] - l_hat[j]);
        kl += p[j] * std::log(p[j] / p_hat[j]);
      }
      add(sums.weighted, weighted);
      add(sums.kl, kl);
      if (lo == 0 && i >= kSinkPositions)
        add(sums.sink, std::accumulate(p.begin(), p.begin() + kSinkPositions, 0.0));
      if (int(p.size()) > kTopK) {
        const auto a = largest(l, gap), b = largest(l_hat, gap);
        std::vector<int> both;
        std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
        add(sums.topk, double(both.size()) / kTopK);
      }
      for (int c = 0; c < h.v_dim; ++c) {
        double o = 0, o_hat = 0;
        for (int64_t j = lo; j <= i; ++j) {
          const double v = h.v[(first + j) * h.v_stride + c];
          o += p[size_t(j - lo)] * v;
          const bool recent = j > i - s.shape.recent;
          o_hat += p_hat[size_t(j - lo)] * (v_hat && !recent ? v_hat[(first + j) * h.v_dim + c] : v);
        }
        size += o * o;
        difference += (o - o_hat) * (o - o_hat);
      }
      add(sums.output, std::sqrt(difference / size));
    }
  return sums;
}

const Case kCases[] = {{{16, 16, Pairing::half}, 7, 1, 7},
                       {{16, 16, Pairing::half}, 40, 3, 40},
                       {{16, 16, Pairing::interleaved}, 37, 4, 16},
                       {{32, 16, Pairing::half}, 33, 2, 33},
                       {{32, 12, Pairing::interleaved}, 25, 1, 12},
                       {{24, 24, Pairing::half}, 40, 2, 10, 1.2},
                       {{16, 16, Pairing::half}, 90, 2, 90, 1, 0.2, 13},
                       {{16, 8, Pairing::half}, 40, 1, 20, 1, 0, 1},
                       {{16, 16, Pairing::half}, 40, 3, 40, 1, 0, 0, 1},
                       {{16, 16, Pairing::half}, 150, 2, 100, 1, 0, 0, 20},
                       {{16, 16, Pairing::half}, 90, 2, 90, 1, 0.2, 13, 5},
                       {{16, 16, Pairing::half}, 90, 2, 90, 1, 0.2, 13, 20}};

}  // namespace

// float32: a logit is a chain of D <= 32 terms of |q k| <~ 4 / sqrt(D), off by less than 32 * 2^-24 * 10 =
// 2e-5, errors l - l^ by less; that passes into p as a relative error and into the sums through terms of one
// sign, so 1e-4 of each of them is enough. A row with one visible key has a KL of 0, of which the rounding of
// an error |l - l^| < 1 leaves up to 2^-25. The top 8 are the same wherever ranks 8 and 9 are further apart
// than both errors, which is asserted.
TEST_CASE("metrics at real positions are those of the definitions") {
  for (const Case& c : kCases) {
    const Sample s(c);
    const std::vector<Restored> restored = {{s.noisy_k.data(), nullptr},
                                            {s.noisier_k.data(), s.noisy_v.data()}};
    const auto scores = AttentionError(s.attention, c.chunk, c.recent).score(s.head, restored);
    REQUIRE(scores.size() == 2);
    double gap = 1;
    for (size_t m = 0; m < 2; ++m) {
      REQUIRE(int64_t(scores[m].size()) == (c.n_tokens + c.chunk - 1) / c.chunk);
      for (size_t chunk = 0; chunk < scores[m].size(); ++chunk) {
        const int64_t first = int64_t(chunk) * c.chunk, length = std::min(c.chunk, c.n_tokens - first);
        const AttentionSums want = twin(s, first, length, restored[m].k, restored[m].v, gap),
                            got = scores[m][chunk];
        for (const Metric metric : {Metric::weighted, Metric::kl, Metric::topk, Metric::output}) {
          INFO(name(metric) << " of " << c.n_tokens << " tokens, chunk " << chunk);
          CHECK(got.of(metric).count == want.of(metric).count);
          const double rounding = double(want.of(metric).count) * 0x1p-25;
          CHECK(got.of(metric).sum == Approx(want.of(metric).sum).epsilon(1e-4).margin(rounding));
        }
        CHECK(got.sink.count == want.sink.count);
        CHECK(got.sink.sum == Approx(want.sink.sum).epsilon(1e-4));
      }
    }
    REQUIRE(gap > 4e-5);
  }
}

TEST_CASE("exact keys: no error, the same distribution, every one of the top kept") {
  for (const Case& c : kCases) {
    Sample s(c);
    std::vector<float> exact;
    for (int t = 0; t < c.n_tokens; ++t)
      exact.insert(exact.end(), s.k.begin() + t * s.head.k_stride,
                   s.k.begin() + t * s.head.k_stride + c.layout.head_dim);
    const std::vector<Restored> restored = {{exact.data(), nullptr}};
    const auto scores = AttentionError(s.attention, c.chunk).score(s.head, restored);
    for (const AttentionSums& sums : scores[0]) {
      CHECK(sums.weighted.sum == 0);
      CHECK(sums.kl.sum == 0);
      CHECK(sums.output.sum == 0);
      CHECK(sums.topk.sum == sums.topk.count);
      CHECK(sums.weighted.count > 0);
    }
  }
}

TEST_CASE("a constant in every key moves no weight") {
  // RoPE turns the constant with the position, so here nothing turns: frequency 0.
  Sample s({{16, 16, Pairing::half}, 40, 2, 40});
  std::fill(s.attention.inv_freq.begin(), s.attention.inv_freq.end(), 0.0);
  std::vector<float> moved;
  for (int t = 0; t < 40; ++t)
    for (int j = 0; j < 16; ++j) moved.push_back(s.k[t * s.head.k_stride + j] + 0.5f);
  const std::vector<Restored> restored = {{moved.data(), nullptr}};
  const AttentionSums sums = AttentionError(s.attention, 40).score(s.head, restored)[0][0];
  CHECK(sums.weighted.sum / sums.weighted.count > 0.1);
  // Logits of size 10 are off by 2e-6 each, by which KL grows in the second order and outputs in the first.
  CHECK(sums.kl.sum / sums.kl.count < 1e-6);
  CHECK(sums.output.sum / sums.output.count < 1e-5);
  CHECK(sums.topk.sum == sums.topk.count);
}

TEST_CASE("the value depends neither on threads nor on company") {
  const Sample s({{32, 32, Pairing::half}, 300, 3, 130});  // tiles of 64 queries: 3 in a chunk, the last of 2
  const std::vector<Restored> both = {{s.noisier_k.data(), nullptr}, {s.noisy_k.data(), nullptr}},
                              alone = {{s.noisy_k.data(), nullptr}};
  const AttentionError metric(s.attention, 130);
  const int before = threads();
  set_threads(1);
  const auto one = metric.score(s.head, both);
  set_threads(3);
  const auto three = metric.score(s.head, both), single = metric.score(s.head, alone);
  set_threads(before);
  for (size_t c = 0; c < 3; ++c)
    for (const Metric m : {Metric::weighted, Metric::kl, Metric::topk, Metric::output}) {
      CHECK(one[0][c].of(m).sum == three[0][c].of(m).sum);
      CHECK(one[1][c].of(m).sum == three[1][c].of(m).sum);
      CHECK(one[1][c].of(m).sum == single[0][c].of(m).sum);
    }
}

TEST_CASE("large logits stay finite") {
  Sample s({{16, 16, Pairing::half}, 40, 1, 40});
  for (float& x : s.q) x *= 300;
  const std::vector<Restored> restored = {{s.noisier_k.data(), nullptr}};
  const AttentionSums sums = AttentionError(s.attention, 40).score(s.head, restored)[0][0];
  CHECK(sums.weighted.sum / sums.weighted.count > 50);
  for (const Metric m : {Metric::weighted, Metric::kl, Metric::topk, Metric::output})
    CHECK(std::isfinite(sums.of(m).sum));
}

TEST_CASE("without values there is no output error") {
  Sample s(kCases[0]);
  s.head.v = nullptr;
  const std::vector<Restored> restored = {{s.noisy_k.data(), nullptr}};
  CHECK(AttentionError(s.attention, 7).score(s.head, restored)[0][0].output.count == 0);
  CHECK(AttentionError(s.attention, 7).score(s.head, restored)[0][0].topk.count == 0);  // 7 keys at most
}
