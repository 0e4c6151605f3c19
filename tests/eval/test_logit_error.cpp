#include <chrono>
#include <cmath>
#include <complex>
#include <vector>

#include "catch.h"
#include "eval/logit_error.h"
#include "gaussian.h"
#include "quant/random.h"

using namespace blockgtq;
using test::gaussian;

namespace {

std::vector<double> frequencies(int rotary_dim, double theta) {
  std::vector<double> f;
  for (int i = 0; i < rotary_dim / 2; ++i) f.push_back(std::pow(theta, -2.0 * i / rotary_dim));
  return f;
}

// RoPE as a model applies it: block i of x turned by position * inv_freq[i].
std::vector<double> rope(const BlockLayout& layout, const std::vector<double>& inv_freq, const float* x,
                         double position) {
  std::vector<double> y(x, x + layout.head_dim);
  const int half = layout.rotary_dim / 2;
  for (int i = 0; i < half; ++i) {
    const int a = layout.pairing == Pairing::half ? i : 2 * i,
              b = layout.pairing == Pairing::half ? i + half : 2 * i + 1;
    const std::complex<double> turned =
        std::complex<double>(x[a], x[b]) * std::polar(1.0, position * inv_freq[i]);
    y[a] = turned.real();
    y[b] = turned.imag();
  }
  return y;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

// Rotates q at position p and both keys at position p - delta and subtracts the logits. The result cannot
// depend on p. Float32 of the library: a row has 2n products of |A|, |B| <~ 3 and rounds after each, sums
// stay below 50, so one error is off by less than 2n * 2^-24 * 50 < 1e-4 of a mean |err| of several units.
TEST_CASE("the logit error is the difference of rotated logits") {
  const BlockLayout layouts[] = {{64, 64, Pairing::half},   {64, 64, Pairing::interleaved},
                                 {32, 16, Pairing::half},   {32, 16, Pairing::interleaved},
                                 {128, 128, Pairing::half}, {2, 2, Pairing::half}};
  for (const BlockLayout& layout : layouts)
    for (const int window : {1024, 7}) {
      const int d = layout.head_dim, group = 3, n = 9, n_offsets = 50;
      const int64_t q_stride = 5 * d, k_stride = 2 * d;  // heads of others in between
      const auto q = gaussian(n * q_stride, 1), k = gaussian(n * k_stride, 2),
                 k_hat = gaussian(size_t(n) * d, 3);
      const auto inv_freq = frequencies(layout.rotary_dim, 10000);
      double expected = 0;
      for (int t = 0; t < n; ++t)
        for (int g = 0; g < group; ++g)
          for (int o = 0; o < n_offsets; ++o) {
            const double delta = -window + 2.0 * window * o / (n_offsets - 1), p = 100 * t + g;
            const auto rotated = rope(layout, inv_freq, &q[t * q_stride + g * d], p);
            const double exact = dot(rotated, rope(layout, inv_freq, &k[t * k_stride], p - delta));
            const double coded = dot(rotated, rope(layout, inv_freq, &k_hat[size_t(t) * d], p - delta));
            expected += std::abs(exact - coded);
          }
      const LogitError metric(layout, inv_freq, window, n_offsets);
      CHECK(metric.n_offsets() == n_offsets);
      CHECK(metric.sum(q.data(), q_stride, group, k.data(), k_stride, k_hat.data(), n) ==
            Approx(expected).epsilon(1e-5));
    }
}

TEST_CASE("exact keys have no error, static coordinates count once per offset") {
  const BlockLayout layout{8, 4, Pairing::interleaved};
  const auto inv_freq = frequencies(4, 10000);
  const auto q = gaussian(8, 1), k = gaussian(8, 2);
  const LogitError metric(layout, inv_freq, 1024, 50);
  CHECK(metric.sum(q.data(), 8, 1, k.data(), 8, k.data(), 1) == 0);
  auto k_hat = k;
  k_hat[6] -= 0.5f;
  CHECK(metric.sum(q.data(), 8, 1, k.data(), 8, k_hat.data(), 1) ==
        Approx(50 * 0.5 * std::abs(q[6])).epsilon(1e-6));
  CHECK(metric.sum(q.data(), 8, 1, k.data(), 8, k_hat.data(), 0) == 0);
}

TEST_CASE("the sum of any number of rows, in any cut") {
  // 100 tokens of 7 heads: two of the tiles and a rest, tile edges inside a token.
  const BlockLayout layout{16, 16, Pairing::half};
  const auto inv_freq = frequencies(16, 500000);
  const int d = 16, group = 7, n = 100;
  const auto q = gaussian(n * group * d, 4), k = gaussian(n * d, 5), k_hat = gaussian(n * d, 6);
  const LogitError metric(layout, inv_freq);
  const double whole = metric.sum(q.data(), group * d, group, k.data(), d, k_hat.data(), n);
  double parts = 0;
  for (int t = 0; t < n; ++t)
    parts += metric.sum(&q[t * group * d], group * d, group, &k[t * d], d, &k_hat[t * d], 1);
  CHECK(parts == Approx(whole).epsilon(1e-13));  // double sums in another order
  CHECK(metric.sum(q.data(), group * d, group, k.data(), d, k_hat.data(), n) == whole);
}

TEST_CASE("a table of another number of frequencies is a defect") {
  CHECK_THROWS_AS(LogitError({8, 8, Pairing::half}, frequencies(4, 10000)), std::logic_error);
  CHECK_THROWS_AS(LogitError({8, 4, Pairing::half}, frequencies(4, 10000), 1024, 1), std::logic_error);
}

TEST_CASE("2048 tokens, 4 heads, 64 blocks, 50 offsets take milliseconds") {
  const BlockLayout layout{128, 128, Pairing::half};
  const int n = 2048, d = 128, group = 4;
  const auto q = gaussian(size_t(n) * group * d, 7), k = gaussian(size_t(n) * d, 8),
             k_hat = gaussian(size_t(n) * d, 9);
  const LogitError metric(layout, frequencies(d, 10000));
  const auto start = std::chrono::steady_clock::now();
  CHECK(metric.sum(q.data(), group * d, group, k.data(), d, k_hat.data(), n) > 0);
  // 2 ms on one core; a plain loop over offsets takes 100. The bound leaves room for sanitizers on a busy
  // machine.
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 1.0);
}
