#include "eval/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "eval/divergence.h"

namespace blockgtq {

int32_t sample(const Sampling& s, std::span<const float> logits, Random& random) {
  check(!logits.empty() && s.temperature >= 0 && s.top_k >= 0 && s.top_p > 0 && s.top_p <= 1,
        "sample: arguments");
  if (s.temperature == 0) return int32_t(likeliest(logits.data(), int64_t(logits.size())));
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto likelier = [&](int32_t a, int32_t b) {
    return logits[size_t(a)] != logits[size_t(b)] ? logits[size_t(a)] > logits[size_t(b)] : a < b;
  };
  size_t n = s.top_k > 0 ? std::min(ids.size(), size_t(s.top_k)) : ids.size();
  std::partial_sort(ids.begin(), ids.begin() + std::ptrdiff_t(n), ids.end(), likelier);
  std::vector<double> weight(n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i)
    sum += weight[i] = std::exp((double(logits[size_t(ids[i])]) - logits[size_t(ids[0])]) / s.temperature);
  double kept = 0;
  size_t i = 0;
  while (i < n && kept < s.top_p * sum) kept += weight[i++];
  n = i;
  const double target = random.next_double() * kept;
  double reached = 0;
  for (i = 0; i + 1 < n; ++i)
    if ((reached += weight[i]) > target) break;
  return ids[i];
}

}  // namespace blockgtq
