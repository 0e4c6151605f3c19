#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/parallel.h"
#include "catch.h"
#include "quant/allocate.h"
#include "quant/random.h"
#include "quant/share.h"
#include "worse.h"

using namespace blockgtq;
using test::worse;

namespace {

std::vector<HeadEnergy> random_heads(Random& random, size_t n_heads, size_t n_blocks) {
  std::vector<HeadEnergy> heads(n_heads);
  for (HeadEnergy& head : heads) {
    const double loud = std::exp(1.5 * random.standard_normal());
    for (size_t i = 0; i < n_blocks; ++i) {
      head.q.push_back(loud * std::exp(2 * random.standard_normal()));
      head.k.push_back(std::exp(2 * random.standard_normal()));
      head.score.push_back(0.5 * (head.q[i] + head.k[i]));
    }
  }
  return heads;
}

std::span<const uint8_t> head_bits(const std::vector<uint8_t>& bits, size_t head, size_t n_blocks) {
  return std::span(bits).subspan(head * n_blocks, n_blocks);
}

double total_bytes(const std::vector<uint8_t>& bits, int n_heads, int n_kv_heads, const ShareSpec& spec) {
  const std::vector<double> bytes = head_bytes(bits, n_heads, n_kv_heads, spec.allocator.cost, spec.equal);
  return std::accumulate(bytes.begin(), bytes.end(), 0.0);
}

// Summed squared logit error of the allocator's own model.
double error_of(const std::vector<HeadEnergy>& heads, const std::vector<uint8_t>& bits) {
  double sum = 0;
  const size_t n_blocks = heads[0].score.size();
  for (size_t h = 0; h < heads.size(); ++h) {
    double logit = 0, score = 0, error = 0;
    for (size_t i = 0; i < n_blocks; ++i) {
      logit += heads[h].q[i] * heads[h].k[i];
      score += heads[h].score[i];
      error += std::ldexp(heads[h].score[i], -2 * bits[h * n_blocks + i]);
    }
    sum += 0.5 * logit / score * error;
  }
  return sum;
}

}  // namespace

TEST_CASE("the default is the published allocation of every head") {
  Random random(21);
  const auto heads = random_heads(random, 6, 20);
  const auto all = allocate_heads(heads, 2, ShareSpec{}, {{5.0, 11.5, 15.0}});  // 1, 2.3 and 3 bits
  const double averages[] = {1, 2.3, 3};
  for (int i = 0; i < 3; ++i)
    for (size_t h = 0; h < 6; ++h) {
      const auto bits = head_bits(all[i], h, 20);
      CHECK(std::vector<uint8_t>(bits.begin(), bits.end()) ==
            allocate_greedy(heads[h].score, {averages[i], 1, 8}));
    }
}

TEST_CASE("no scope, cost or allocator exceeds its budget, and sharing only lowers the error") {
  Random random(22);
  const int n_heads = 6, n_kv_heads = 3;
  const size_t n_blocks = 12;
  const auto heads = random_heads(random, n_heads, n_blocks);
  for (const Allocator allocator : {Allocator::greedy, Allocator::exact, Allocator::mixing})
    for (const CostKind cost : {CostKind::nominal, CostKind::packed, CostKind::page})
      for (const Scope equal : {Scope::head, Scope::layer, Scope::model})
        for (const double bytes : {6.3, 9.0, 13.99}) {
          double last = std::numeric_limits<double>::infinity();
          for (const Scope share : {Scope::head, Scope::layer, Scope::model}) {
            INFO(name(allocator) << " cost " << int(cost) << " equal " << name(equal) << " share "
                                 << name(share) << " bytes " << bytes);
            ShareSpec spec;
            spec.allocator.allocator = allocator;
            spec.allocator.cost.kind = cost;
            spec.share = share;
            spec.equal = equal;
            const auto bits = allocate_heads(heads, n_kv_heads, spec, {{bytes}})[0];
            if (equal == Scope::head)
              REQUIRE(total_bytes(bits, n_heads, n_kv_heads, spec) <= bytes * n_heads);
            const auto each = head_bytes(bits, n_heads, n_kv_heads, spec.allocator.cost, Scope::head);
            REQUIRE(std::accumulate(each.begin(), each.end(), 0.0) <= bytes * n_heads);
            if (share == Scope::head)
              for (const double b : each) REQUIRE(b <= bytes);
            // Each head alone spends what a pool could have given it: a pool of convex curves is never worse.
            // (Of nominal greedy alone: other curves are not convex.)
            if (allocator == Allocator::greedy && cost == CostKind::nominal && equal == Scope::head) {
              const double error = error_of(heads, bits);
              REQUIRE(error <= last * (1 + 1e-13));
              last = error;
            }
            set_threads(1);
            REQUIRE(allocate_heads(heads, n_kv_heads, spec, {{bytes}})[0] == bits);
            set_threads(0);
          }
        }
}

TEST_CASE("a pool of greedy heads is the greedy allocator over all of their blocks") {
  Random random(23);
  const auto heads = random_heads(random, 5, 16);
  ShareSpec spec;
  spec.share = Scope::model;
  HeadEnergy pool;
  for (const HeadEnergy& head : heads) {
    const double logit = std::inner_product(head.q.begin(), head.q.end(), head.k.begin(), 0.0),
                 score = std::accumulate(head.score.begin(), head.score.end(), 0.0);
    for (const double s : head.score) pool.score.push_back(0.5 * logit / score * s);
  }
  for (const double average : {1.5, 2.0, 3.3, 6.0})
    CHECK(allocate_heads(heads, 5, spec, {{4 * average}})[0] == allocate_greedy(pool.score, {average, 1, 8}));
}

TEST_CASE("pools against every split: never more than a hull segment from the optimum") {
  Random random(24);
  double worst = 0;
  for (int round = 0; round < 40; ++round) {
    const auto heads = random_heads(random, 3, 6);
    ShareSpec spec;
    spec.allocator.allocator = Allocator::exact;
    spec.allocator.cost.kind = CostKind::packed;
    spec.share = Scope::layer;
    const double bytes = 5 + round % 4;
    const auto bits = allocate_heads(heads, 3, spec, {{bytes}})[0];
    std::vector<int64_t> capacities;
    for (int64_t b = 0; b <= 28; ++b) capacities.push_back(4 * b);
    std::vector<std::vector<Allocation>> curve;
    for (const HeadEnergy& head : heads) curve.push_back(allocate_head(head, spec.allocator, capacities));
    double best = std::numeric_limits<double>::infinity();
    for (int a = 0; a <= 3 * bytes; ++a)
      for (int b = 0; a + b <= 3 * bytes; ++b)
        best = std::min(best, curve[0][a].error + curve[1][b].error + curve[2][int(3 * bytes) - a - b].error);
    const double found = error_of(heads, bits);
    CHECK(found >= best * (1 - 1e-12));
    worst = worse(worst, found / best - 1);
  }
  CHECK(worst < 0.05);  // three heads of six blocks; a segment weighs less where more heads share
}

TEST_CASE("equal heads: the same bytes within the scope, the budget kept") {
  Random random(25);
  const auto heads = random_heads(random, 6, 12);
  ShareSpec spec;
  spec.allocator.allocator = Allocator::exact;
  spec.allocator.cost.kind = CostKind::packed;
  spec.share = Scope::model;
  spec.equal = Scope::layer;
  const auto bits = allocate_heads(heads, 3, spec, {{10.0}})[0];
  const auto bytes = head_bytes(bits, 6, 3, spec.allocator.cost, Scope::layer);
  CHECK((bytes[0] == bytes[1] && bytes[1] == bytes[2] && bytes[3] == bytes[4] && bytes[4] == bytes[5]));
  CHECK(bytes[0] != bytes[3]);
  CHECK(bytes[0] + bytes[3] <= 20);
  spec.equal = Scope::model;
  const auto all = allocate_heads(heads, 3, spec, {{10.0}})[0];
  for (const double b : head_bytes(all, 6, 3, spec.allocator.cost, Scope::model)) CHECK(b == 10);
}

TEST_CASE("budgets no head can keep to, or none can spend, are refused") {
  Random random(26);
  const auto heads = random_heads(random, 2, 8);
  auto code_of = [&](double bytes, CostKind cost) {
    ShareSpec spec;
    spec.allocator.cost.kind = cost;
    try {
      allocate_heads(heads, 2, spec, {{bytes}});
    } catch (const Error& e) {
      return e.code;
    }
    return Exit::ok;
  };
  CHECK(code_of(2, CostKind::nominal) == Exit::ok);
  CHECK(code_of(1.99, CostKind::nominal) == Exit::usage);
  CHECK(code_of(4, CostKind::packed) == Exit::ok);  // one bit and a norm
  CHECK(code_of(3.99, CostKind::packed) == Exit::usage);
  CHECK(code_of(16, CostKind::packed) == Exit::ok);
  CHECK(code_of(16.01, CostKind::page) == Exit::usage);
  CHECK(code_of(std::nan(""), CostKind::page) == Exit::usage);
}
