#include "model/moe.h"

#include <cmath>

#include "catch.h"

using namespace blockgtq;

namespace {

MoeConfig eight_experts() {
  MoeConfig moe;
  moe.n_experts = 8;
  moe.n_per_token = 3;
  return moe;
}

/// Logits whose softmax is these probabilities.
std::vector<float> logits_of(const std::vector<double>& p) {
  std::vector<float> out;
  for (double x : p) out.push_back(float(std::log(x)));
  return out;
}

const std::vector<double> kProbability = {0.05, 0.20, 0.10, 0.15, 0.25, 0.02, 0.13, 0.10};

}  // namespace

TEST_CASE("routing takes the most probable experts") {
  std::vector<float> logits = logits_of(kProbability);
  const Routing r = route(eight_experts(), logits.data(), 1);
  CHECK(r.expert == std::vector<int32_t>{4, 1, 3});
  CHECK(r.weight[0] == Approx(0.25).epsilon(1e-5));
  CHECK(r.weight[1] == Approx(0.20).epsilon(1e-5));
  CHECK(r.weight[2] == Approx(0.15).epsilon(1e-5));
}

TEST_CASE("routing: normalized to one, and scaled") {
  MoeConfig moe = eight_experts();
  moe.normalize_top_k = true;
  std::vector<float> logits = logits_of(kProbability);
  CHECK(route(moe, logits.data(), 1).weight[0] == Approx(0.25 / 0.60).epsilon(1e-5));
  moe.normalize_top_k = false;
  moe.routed_scale = 16;
  logits = logits_of(kProbability);
  CHECK(route(moe, logits.data(), 1).weight[2] == Approx(0.15 * 16).epsilon(1e-5));
}

TEST_CASE("routing limited to groups: those with the largest member") {
  MoeConfig moe = eight_experts();
  moe.n_group = 4;
  moe.topk_group = 2;
  std::vector<float> logits = logits_of(kProbability);
  const Routing r = route(moe, logits.data(), 1);  // groups {4, 5} and {0, 1}: expert 3 is out
  CHECK(r.expert == std::vector<int32_t>{4, 1, 0});
  CHECK(r.weight[2] == Approx(0.05).epsilon(1e-5));
}

TEST_CASE("routing: ties go to the lower index; all experts may be taken") {
  MoeConfig moe = eight_experts();
  std::vector<float> logits(16, 1.0f);
  logits[8 + 5] = 2;
  const Routing r = route(moe, logits.data(), 2);
  CHECK(r.expert == std::vector<int32_t>{0, 1, 2, 5, 0, 1});
  moe.n_per_token = 8;
  logits = logits_of(kProbability);
  const Routing all = route(moe, logits.data(), 1);
  double total = 0;
  for (float w : all.weight) total += double(w);
  CHECK(total == Approx(1).epsilon(1e-6));
}

TEST_CASE("routing by sigmoid: chosen with a bias, weighted without it, groups by their two best") {
  MoeConfig moe = eight_experts();
  moe.score = MoeConfig::Score::sigmoid;
  moe.normalize_top_k = true;
  moe.routed_scale = 2;
  const auto logits = [] { return std::vector<float>{2, -1, 0, 1, 3, -2, 0.5, 0.25}; };
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  std::vector<float> x = logits();
  const std::vector<float> bias = {0, 0, 0, 0, -1, 0, 0, 0.5};  // 4 falls out, 7 comes in
  const Routing r = route(moe, x.data(), 1, bias);
  CHECK(r.expert == std::vector<int32_t>{7, 0, 3});
  const double sum = sigmoid(0.25) + sigmoid(2) + sigmoid(1);
  CHECK(r.weight[0] == Approx(2 * sigmoid(0.25) / sum).epsilon(1e-5));
  CHECK(r.weight[1] == Approx(2 * sigmoid(2) / sum).epsilon(1e-5));
  // Pairs {0, 1}: 1.15, {2, 3}: 1.23, {4, 5}: 1.07, {6, 7}: 1.18. By their best alone {4, 5} would lead.
  moe.n_group = 4;
  moe.topk_group = 2;
  moe.group_by_two = true;
  x = logits();
  CHECK(route(moe, x.data(), 1).expert == std::vector<int32_t>{3, 6, 7});
}
