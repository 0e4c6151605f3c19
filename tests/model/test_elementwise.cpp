#include "model/elementwise.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "catch.h"
#include "worse.h"

using namespace blockgtq;
using test::worse;

namespace {

Tensor f32_tensor(const std::vector<float>& values) {
  Tensor t;
  t.dtype = DType::f32;
  t.shape = {int64_t(values.size())};
  t.data = std::as_bytes(std::span(values));
  return t;
}

}  // namespace

TEST_CASE("exp_below_max makes a softmax") {
  for (int n : {1, 15, 16, 17, 40}) {
    std::vector<float> x;
    for (int i = 0; i < n; ++i) x.push_back(100 + 3 * std::sin(float(i)));
    std::vector<double> want;
    double total = 0;
    for (float v : x) total += want.emplace_back(std::exp(double(v) - 100));
    const float sum = exp_below_max(x.data(), n);
    // Differences from the maximum are exact to 100 * 2^-24, and pass into the exponential as a relative
    // error.
    for (int i = 0; i < n; ++i)
      CHECK(double(x[size_t(i)]) / double(sum) == Approx(want[size_t(i)] / total).epsilon(2e-5));
    CHECK(*std::max_element(x.begin(), x.end()) == 1);
  }
}

TEST_CASE("rms_norm") {
  for (int dim : {1, 15, 16, 17, 130}) {
    std::vector<float> w, x, y(size_t(3 * dim));
    for (int i = 0; i < dim; ++i) w.push_back(0.5f + 0.01f * float(i));
    for (int i = 0; i < 3 * (dim + 2); ++i) x.push_back(std::cos(0.7f * float(i)));
    rms_norm(f32_tensor(w), 1e-6, x.data(), dim + 2, 3, y.data(), dim);
    for (int t = 0; t < 3; ++t) {
      double sum = 0;
      for (int i = 0; i < dim; ++i) sum += std::pow(double(x[size_t(t * (dim + 2) + i)]), 2);
      const double scale = 1 / std::sqrt(sum / dim + 1e-6);
      for (int i = 0; i < dim; ++i)
        CHECK(double(y[size_t(t * dim + i)]) ==
              Approx(double(x[size_t(t * (dim + 2) + i)]) * scale * double(w[size_t(i)]))
                  .epsilon(1e-6)
                  .margin(1e-7));
    }
  }
  std::vector<float> zeros(4, 0.0f);
  rms_norm(f32_tensor({1, 2, 3, 4}), 1e-6, zeros.data(), 4, 1, zeros.data(), 4);
  CHECK(zeros == std::vector<float>(4, 0.0f));
}

TEST_CASE("silu_times and add_to, over more than one piece of work") {
  const int64_t n = 70000;
  std::vector<float> gate, up, sum;
  for (int64_t i = 0; i < n; ++i) {
    gate.push_back(20 * std::sin(0.37f * float(i)));
    up.push_back(std::cos(0.11f * float(i)));
  }
  const std::vector<float> before = gate;
  silu_times(gate.data(), up.data(), n);
  double worst = 0;
  for (size_t i = 0; i < size_t(n); ++i) {
    const double g = double(before[i]), want = g / (1 + std::exp(-g)) * double(up[i]);
    worst = worse(worst, std::abs(double(gate[i]) - want) / (std::abs(want) + 1e-12));
  }
  CHECK(worst < 1e-6);  // two units of exp and three roundings: 5 * 2^-24 = 3e-7
  sum = up;
  add_to(sum.data(), before.data(), n);
  for (size_t i = 0; i < size_t(n); i += 997) CHECK(sum[i] == up[i] + before[i]);
}

TEST_CASE("first_nonfinite finds the first") {
  std::vector<float> x(100000, 1.0f);
  x[3] = std::numeric_limits<float>::max();
  x[4] = std::numeric_limits<float>::denorm_min();
  CHECK(first_nonfinite(x.data(), 100000) == 100000);
  CHECK(first_nonfinite(x.data(), 0) == 0);
  for (int64_t at : {99999, 40000, 32768, 32767, 0}) {
    x[size_t(at)] = at % 2 ? std::nanf("") : -std::numeric_limits<float>::infinity();
    CHECK(first_nonfinite(x.data(), 100000) == at);
    CHECK(first_nonfinite(x.data(), at) == at);  // not among those before
  }
}
