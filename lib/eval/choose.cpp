#include <cmath>

#include "base/error.h"
#include "eval/candidate.h"

namespace blockgtq {
namespace {

constexpr double kErrors = 2;  // standard errors that a difference must exceed

/// Whether the mean of a * p - b * q is below zero by more than noise.
bool clearly_lower(std::span<const double> a, double p, std::span<const double> b, double q) {
  check(a.size() == b.size(), "choose: candidates of different positions");
  const auto n = double(a.size());
  if (a.size() < 2) return false;
  double sum = 0, squares = 0;
  for (size_t t = 0; t < a.size(); ++t) sum += a[t] * p - b[t] * q;
  const double mean = sum / n;
  for (size_t t = 0; t < a.size(); ++t) {
    const double off = a[t] * p - b[t] * q - mean;
    squares += off * off;
  }
  return mean < -kErrors * std::sqrt(squares / (n - 1) / n);
}

}  // namespace

double price(double bytes, double reference_bytes, double n_numbers) {
  return std::exp2(2 * 8 * (bytes - reference_bytes) / n_numbers);
}

size_t choose(std::span<const Candidate> candidates, double n_numbers) {
  check(!candidates.empty() && n_numbers > 0, "choose: no reference");
  size_t chosen = 0;
  auto priced = [&](size_t i) { return price(candidates[i].bytes, candidates[0].bytes, n_numbers); };
  for (size_t i = 1; i < candidates.size(); ++i)
    if (clearly_lower(candidates[i].kl, priced(i), candidates[chosen].kl, priced(chosen))) chosen = i;
  return chosen;
}

}  // namespace blockgtq
