#include "quant/allocator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "quant/allocate.h"
#include "quant/cut_runs.h"
#include "quant/exchange.h"

namespace blockgtq {

namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();

int64_t cost_of(const std::vector<uint8_t>& bits, const Cost& cost) {
  unsigned widths = 0;
  int64_t sum = cost.per_key();
  for (const uint8_t b : bits) sum += b, widths |= 1u << b;
  return sum + int64_t(cost.per_group()) * __builtin_popcount(widths);
}

// The factor from an error in the score's units to a mean squared logit error.
double logit_weight(const HeadEnergy& head) {
  if (head.q.empty()) return 1;
  double logit = 0, score = 0;
  for (size_t i = 0; i < head.score.size(); ++i) logit += head.q[i] * head.k[i], score += head.score[i];
  return score > 0 ? 0.5 * logit / score : 0;
}

std::vector<Allocation> greedy(const HeadEnergy& head, const AllocatorSpec& spec,
                               std::span<const int64_t> capacities) {
  const int n = int(head.score.size()), low = spec.widths.front(), high = spec.widths.back();
  const double weight = logit_weight(head);
  std::vector<Allocation> all(capacities.size(), Allocation{{}, kNone});
  const int64_t largest = *std::max_element(capacities.begin(), capacities.end());
  for (int64_t total = int64_t(n) * low; total <= std::min<int64_t>(largest, int64_t(n) * high); ++total) {
    const std::vector<uint8_t> bits =
        allocate_greedy(head.score, {double(total) / n, low, high, spec.stop_without_gain});
    const int64_t cost = cost_of(bits, spec.cost);
    double error = 0;
    for (int i = 0; i < n; ++i) error += weight * std::ldexp(head.score[i], -2 * bits[i]);
    for (size_t c = 0; c < capacities.size(); ++c)
      if (cost <= capacities[c]) all[c] = {bits, error};
  }
  return all;
}

// Block indices by descending key; equal keys by ascending index.
std::vector<int> descending(const std::vector<double>& key) {
  std::vector<int> order(key.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return key[a] > key[b]; });
  return order;
}

// (B + 1): entry i is the sum over the first i blocks in that order.
std::vector<double> running_sum(const std::vector<double>& x, const std::vector<int>& order) {
  std::vector<double> sum = {0};
  for (const int i : order) sum.push_back(sum.back() + x[i]);
  return sum;
}

std::vector<Allocation> cut(const std::vector<int>& order, const AllocatorSpec& spec,
                            std::span<const int64_t> capacities, std::function<double(int, int, int)> error) {
  RunProblem problem;
  problem.n_blocks = int(order.size());
  problem.widths = spec.widths;
  problem.per_group = spec.cost.per_group();
  problem.max_groups = spec.max_groups;
  problem.multiple = spec.group_blocks;
  problem.error = std::move(error);
  std::vector<int64_t> left;
  for (const int64_t c : capacities) left.push_back(c - spec.cost.per_key());
  std::vector<Allocation> all;
  for (const Cuts& cuts : cut_runs(problem, left)) {
    Allocation& a = all.emplace_back(Allocation{std::vector<uint8_t>(cuts.bits.size()), cuts.error});
    for (size_t i = 0; i < cuts.bits.size(); ++i) a.bits[order[i]] = cuts.bits[i];
  }
  return all;
}

// D falls with b, so an optimum gives no block fewer bits than a block of lower score. It is therefore a cut
// of the blocks in descending score.
std::vector<Allocation> exact(const HeadEnergy& head, const AllocatorSpec& spec,
                              std::span<const int64_t> capacities) {
  const int n = int(head.score.size());
  const std::vector<int> order = descending(head.score);
  const std::vector<double> sum = running_sum(head.score, order);
  const double weight = logit_weight(head);
  return cut(order, spec, capacities, [&](int width, int first, int end) {
    return weight * spec.distortion(width, n) * (sum[end] - sum[first]);
  });
}

std::vector<Allocation> mixing(const HeadEnergy& head, const AllocatorSpec& spec,
                               std::span<const int64_t> capacities) {
  check(!head.q.empty(), "allocate_head: mixing needs the energies of queries and keys");
  std::vector<double> product(head.q.size());
  for (size_t i = 0; i < product.size(); ++i) product[i] = head.q[i] * head.k[i];
  std::vector<Allocation> best(capacities.size(), Allocation{{}, kNone});
  const std::vector<double>* const keys[] = {&head.score, &product, &head.k, &head.q};
  for (const std::vector<double>* key : keys) {
    const std::vector<int> order = descending(*key);
    const std::vector<double> q = running_sum(head.q, order), k = running_sum(head.k, order);
    const std::vector<Allocation> found = cut(order, spec, capacities, [&](int width, int first, int end) {
      const int n = end - first;
      return 0.5 * spec.distortion(width, n) * (q[end] - q[first]) * (k[end] - k[first]) / n;
    });
    for (size_t c = 0; c < best.size(); ++c)
      if (found[c].error < best[c].error) best[c] = found[c];
  }
  for (Allocation& a : best)
    if (!a.bits.empty()) a.error = exchange_blocks(head.q, head.k, spec.distortion, a.bits);
  return best;
}

void check_energies(const std::vector<double>& energy, const char* what, size_t n) {
  check(energy.size() == n, "allocate_head: energies of another number of blocks");
  for (size_t i = 0; i < n; ++i) {
    if (!std::isfinite(energy[i]))
      throw Error(Exit::nonfinite, fmt::format("{} of block {}: not finite: {} found", what, i, energy[i]));
    if (energy[i] < 0) fail_input("{} of block {}: {} found, not negative allowed", what, i, energy[i]);
  }
}

}  // namespace

Allocator parse_allocator(const std::string& text) {
  for (const Allocator a : {Allocator::greedy, Allocator::exact, Allocator::mixing})
    if (text == name(a)) return a;
  throw Error(Exit::usage, fmt::format("allocator: '{}' found, greedy, exact or mixing allowed", text));
}

const char* name(Allocator allocator) {
  return allocator == Allocator::greedy ? "greedy" : allocator == Allocator::exact ? "exact" : "mixing";
}

std::vector<int> width_range(int low, int high) {
  std::vector<int> widths;
  for (int w = low; w <= high; ++w) widths.push_back(w);
  return widths;
}

void check_allocator(const AllocatorSpec& spec) {
  const std::vector<int>& w = spec.widths;
  if (w.empty() || w.front() < 1 || w.back() > kMaxBits)
    throw Error(Exit::usage,
                w.empty() ? fmt::format("bits per block: none left, some of 1 to {} needed", kMaxBits)
                          : fmt::format("bits per block: {} to {} found, a range within 1 to {} allowed",
                                        w.front(), w.back(), kMaxBits));
  check(std::adjacent_find(w.begin(), w.end(), std::greater_equal<int>()) == w.end(),
        "AllocatorSpec: widths out of order");
  if (spec.max_groups < 1) throw Error(Exit::usage, "groups: at least 1 allowed");
  if (spec.allocator != Allocator::greedy) return;
  const char* hint = "--allocator exact or mixing can";
  if (w.back() - w.front() + 1 != int(w.size()))
    throw Error(Exit::usage, "the greedy allocator takes a range of bits, none left out", hint);
  if (spec.max_groups < int(w.size()))
    throw Error(Exit::usage, fmt::format("the greedy allocator cannot keep to {} groups", spec.max_groups),
                hint);
  if (spec.group_blocks > 1)
    throw Error(
        Exit::usage,
        fmt::format("the greedy allocator cannot keep groups to a multiple of {} blocks", spec.group_blocks),
        hint);
}

void check_blocks(const AllocatorSpec& spec, int n_blocks) {
  if (n_blocks % spec.group_blocks != 0)
    throw Error(Exit::usage, fmt::format("{} blocks of a head cannot be cut into groups of a multiple of {}",
                                         n_blocks, spec.group_blocks));
}

std::vector<Allocation> allocate_head(const HeadEnergy& head, const AllocatorSpec& spec,
                                      std::span<const int64_t> capacities) {
  check_allocator(spec);
  const size_t n = head.score.size();
  check(n > 0 && !capacities.empty(), "allocate_head: nothing to allocate");
  check_blocks(spec, int(n));
  check_energies(head.score, "energy", n);
  if (!head.q.empty()) {
    check_energies(head.q, "query energy", n);
    check_energies(head.k, "key energy", n);
  }
  switch (spec.allocator) {
    case Allocator::greedy:
      return greedy(head, spec, capacities);
    case Allocator::exact:
      return exact(head, spec, capacities);
    case Allocator::mixing:
      return mixing(head, spec, capacities);
  }
  throw std::logic_error("allocate_head: unknown allocator");
}

}  // namespace blockgtq
