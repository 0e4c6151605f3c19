#include "eval/rank_correlation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace blockgtq {
namespace {

/// Ranks from 0, minus their mean.
std::vector<double> centred_ranks(const std::vector<double>& x) {
  std::vector<size_t> order(x.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] < x[b]; });
  std::vector<double> ranks(x.size());
  for (size_t first = 0, last = 0; first < order.size(); first = last) {
    while (last < order.size() && x[order[last]] == x[order[first]]) ++last;
    const double shared = 0.5 * double(first + last - 1) - 0.5 * double(x.size() - 1);
    for (size_t i = first; i < last; ++i) ranks[order[i]] = shared;
  }
  return ranks;
}

}  // namespace

double rank_correlation(const std::vector<double>& x, const std::vector<double>& y) {
  check(x.size() == y.size(), "rank_correlation: sides of another size");
  for (const std::vector<double>* side : {&x, &y})
    for (const double value : *side) check(!std::isnan(value), "rank_correlation: a NaN has no rank");
  if (x.empty()) return std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> a = centred_ranks(x), b = centred_ranks(y);
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace blockgtq
