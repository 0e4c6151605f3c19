#include <set>

#include "device_arrays.h"
#include "kernels/forward/moe.h"

using namespace blockgtq;
using namespace blockgtq::test;

namespace {

/// Scores, what experts are chosen by after the group rule, and the order of choice.
struct Twin {
  std::vector<double> score, choice;
  std::vector<int> order;
};

Twin twin(const cuda::RoutingRule& rule, const float* logits, const std::vector<float>& bias) {
  const size_t n = size_t(rule.n_experts);
  Twin out;
  double sum = 0;
  for (size_t e = 0; e < n; ++e) sum += std::exp(double(logits[e]));
  for (size_t e = 0; e < n; ++e) {
    const double x = double(logits[e]);
    out.score.push_back(rule.sigmoid ? 1 / (1 + std::exp(-x)) : std::exp(x) / sum);
    out.choice.push_back(out.score[e] + (bias.empty() ? 0 : double(bias[e])));
  }
  const auto best = [](const std::vector<double>& values, int count) {
    std::vector<int> order(values.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = int(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return values[size_t(a)] > values[size_t(b)]; });
    order.resize(size_t(count));
    return order;
  };
  if (rule.n_group > 1) {
    const size_t size = n / size_t(rule.n_group);
    std::vector<double> worth;
    for (size_t g = 0; g < size_t(rule.n_group); ++g) {
      const std::vector<double> group(out.choice.begin() + long(g * size),
                                      out.choice.begin() + long((g + 1) * size));
      worth.push_back(0);
      for (const int e : best(group, rule.group_by_two ? 2 : 1)) worth[g] += group[size_t(e)];
    }
    const std::vector<int> groups = best(worth, rule.topk_group);
    const std::set<int> kept(groups.begin(), groups.end());
    for (size_t e = 0; e < n; ++e)
      if (!kept.count(int(e / size))) out.choice[e] = -INFINITY;
  }
  out.order = best(out.choice, rule.n_per_token);
  return out;
}

struct Routed {
  std::vector<int32_t> expert;
  std::vector<float> weight;
};

Routed route(const cuda::RoutingRule& rule, const std::vector<float>& logits, int64_t n,
             const cuda::Stream& stream) {
  const int64_t choices = n * rule.n_per_token;
  const cuda::Buffer in = to_device(logits, stream), expert = poisoned(choices * 4, stream),
                     weight = poisoned(choices * 4, stream);
  cuda::route(rule, in.as<float>(), n, expert.as<int32_t>(), weight.as<float>(), stream);
  return {to_host<int32_t>(expert.as(), choices, stream), to_host<float>(weight.as(), choices, stream)};
}

}  // namespace

TEST_CASE("routing chooses the most probable experts and weighs them") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  const cuda::RoutingRule rules[] = {
      {8, 2, 1, 1, false, 1},
      {128, 8, 1, 1, true, 1},
      {64, 6, 1, 1, false, 1},
      {160, 6, 8, 3, false, 16},
      {33, 33, 1, 1, true, 2.5f},
      {1, 1, 1, 1, true, 1},
      {256, 8, 32, 32, false, 1},
      {4096, 12, 64, 2, true, 1},
      {6, 2, 1, 1, true, 1, true},
      {8, 3, 4, 2, true, 2.5f, true, true},
      {256, 8, 8, 4, true, 2.5f, true, true},
      {64, 6, 1, 1, false, 1},
      {8192, 16, 1, 1, true, 1, true},
  };
  for (cuda::RoutingRule rule : rules) {
    const int64_t n = 101;
    INFO("experts " << rule.n_experts << ", groups " << rule.n_group << (rule.sigmoid ? ", sigmoid" : ""));
    const std::vector<float> logits = random.normal(n * rule.n_experts, 2);
    std::vector<float> bias;
    if (rule.sigmoid) bias = random.normal(rule.n_experts, 0.3f);  // may make a choice negative
    const cuda::Buffer on_device = to_device(bias, stream);
    if (rule.sigmoid) rule.bias = on_device.as<float>();
    const Routed got = route(rule, logits, n, stream);
    int64_t wrong = 0;
    for (int64_t t = 0; t < n; ++t) {
      const Twin want = twin(rule, &logits[size_t(t * rule.n_experts)], bias);
      double kept = 0;
      for (const int e : want.order) kept += want.score[size_t(e)];
      std::set<int> seen;
      for (int i = 0; i < rule.n_per_token; ++i) {
        const size_t at = size_t(t * rule.n_per_token + i);
        const int32_t e = got.expert[at];
        const bool valid = e >= 0 && e < rule.n_experts && seen.insert(e).second;
        wrong += !valid;
        if (!valid) continue;
        // e^x, a sum of n_experts / 32 + 5 terms, two quotients: within 1e-5, of the size of one with a bias.
        // Nearly equal ones may swap.
        const double choice = want.choice[size_t(e)], best = want.choice[size_t(want.order[size_t(i)])];
        wrong += !(std::abs(choice - best) <= 1e-5 * (rule.bias ? 1 : best));
        const double weight = want.score[size_t(e)] * double(rule.scale) / (rule.normalize ? kept : 1);
        wrong += !(std::abs(double(got.weight[at]) - weight) <= 2e-5 * weight);
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("routing takes the lowest index among equals, and stays in range with NaN") {
  if (!has_device()) return;
  cuda::Stream stream;
  const cuda::RoutingRule rule{70, 3, 1, 1, true, 1};
  std::vector<float> logits(140, 0.0f);
  std::fill(logits.begin() + 70, logits.end(), NAN);
  const Routed got = route(rule, logits, 2, stream);
  CHECK(std::vector(got.expert.begin(), got.expert.begin() + 3) == std::vector<int32_t>{0, 1, 2});
  for (int i = 0; i < 3; ++i) CHECK(got.weight[size_t(i)] == Approx(1.0 / 3));
  for (int i = 3; i < 6; ++i) CHECK((got.expert[size_t(i)] >= 0 && got.expert[size_t(i)] < 70));
}

TEST_CASE("rows are gathered") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t cols : {1, 3, 8, 160, 2048, 2049}) {  // of two bytes
    const int64_t n = 50, out_rows = 77;
    std::vector<uint16_t> in(size_t(n * cols));
    for (uint16_t& x : in) x = uint16_t(random.below(65535));
    std::vector<int32_t> row(static_cast<size_t>(out_rows));
    for (int32_t& r : row) r = int32_t(random.below(n));
    const cuda::Buffer from = to_device(in, stream), rows = to_device(row, stream),
                       to = poisoned(out_rows * cols * 2, stream);
    cuda::gather_rows(from.as(), cols * 2, rows.as<int32_t>(), out_rows, to.as(), stream);
    std::vector<uint16_t> want;
    for (const int32_t r : row) want.insert(want.end(), in.begin() + r * cols, in.begin() + (r + 1) * cols);
    CHECK(to_host<uint16_t>(to.as(), out_rows * cols, stream) == want);
  }
}

TEST_CASE("experts' rows are added with their weights") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int k : {1, 2, 8}) {
    const int64_t n = 41, cols = 300, rows = n * k;
    const std::vector<float> x = random.normal(n * cols), y = random.normal(rows * cols),
                             weight = random.normal(rows);
    std::vector<int32_t> position(static_cast<size_t>(rows));
    for (size_t i = 0; i < position.size(); ++i) position[i] = int32_t(i);
    std::shuffle(position.begin(), position.end(), random.engine);
    const cuda::Buffer dx = to_device(x, stream), dy = to_device(y, stream), dw = to_device(weight, stream),
                       dp = to_device(position, stream);
    cuda::add_weighted_rows(dy.as<float>(), dp.as<int32_t>(), dw.as<float>(), n, k, cols, dx.as<float>(),
                            stream);
    std::vector<double> want(x.begin(), x.end());
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j)
        want[size_t(i / k * cols + j)] +=
            double(weight[size_t(i)]) * y[size_t(position[size_t(i)] * cols + j)];
    // 2 k roundings of sums of some sqrt(k).
    CHECK(distance(to_host<float>(dx.as(), n * cols, stream), want) <= 2 * k * 0x1p-24);
  }
}

TEST_CASE("rows are added behind their gates") {
  if (!has_device()) return;
  cuda::Stream stream;
  Random random;
  INFO("seed " << random.seed);
  for (const int64_t cols : {1, 255, 256, 2049}) {
    const int64_t n = 23;
    const std::vector<float> x = random.normal(n * cols), y = random.normal(n * cols);
    std::vector<float> open = random.normal(n, 3);
    open[0] = -200;  // closed
    const cuda::Buffer dx = to_device(x, stream), dy = to_device(y, stream), dopen = to_device(open, stream);
    cuda::add_gated_rows(dy.as<float>(), dopen.as<float>(), 0.6f, n, cols, dx.as<float>(), stream);
    std::vector<double> want(x.begin(), x.end());
    for (int64_t i = 0; i < n * cols; ++i)
      want[size_t(i)] +=
          double(0.6f) / (1 + std::exp(-double(open[size_t(i / cols)]))) * double(y[size_t(i)]);
    // An exponential, a sum, a quotient, a product and a sum.
    CHECK(distance(to_host<float>(dx.as(), n * cols, stream), want) <= 6 * 0x1p-24);
  }
}
