#include "eval/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "eval/divergence.h"

namespace blockgtq {

namespace {

/// Token ids by descending probability, sorted only as far as they are read.
class Ranking {
 public:
  explicit Ranking(std::span<const float> logits) : logits_(logits), ids_(logits.size()) {
    std::iota(ids_.begin(), ids_.end(), 0);
  }
  /// The i-th token id; of equal logits the lower id comes first.
  int32_t operator[](size_t i) {
    constexpr size_t kAtOnce = 64;
    while (i >= sorted_) rank(std::min(ids_.size(), std::max(kAtOnce, 4 * sorted_)));
    return ids_[i];
  }

 private:
  void rank(size_t end) {
    const auto likelier = [&](int32_t a, int32_t b) {
      return logits_[size_t(a)] != logits_[size_t(b)] ? logits_[size_t(a)] > logits_[size_t(b)] : a < b;
    };
    const auto first = ids_.begin() + std::ptrdiff_t(sorted_), last = ids_.begin() + std::ptrdiff_t(end);
    if (last != ids_.end()) std::nth_element(first, last, ids_.end(), likelier);
    std::sort(first, last, likelier);
    sorted_ = end;
  }

  std::span<const float> logits_;
  std::vector<int32_t> ids_;
  size_t sorted_ = 0;
};

}  // namespace

int32_t sample(const Sampling& s, std::span<const float> logits, Random& random) {
  check(!logits.empty() && s.temperature >= 0 && s.top_k >= 0 && s.top_p > 0 && s.top_p <= 1,
        "sample: arguments");
  const int64_t top = likeliest(logits.data(), int64_t(logits.size()));
  if (s.temperature == 0) return int32_t(top);
  const auto weight = [&](int32_t id) {
    return std::exp((double(logits[size_t(id)]) - logits[size_t(top)]) / s.temperature);
  };
  Ranking ranking(logits);
  const size_t most = s.top_k > 0 ? std::min(logits.size(), size_t(s.top_k)) : logits.size();
  double sum = 0;
  for (size_t i = 0; i < most; ++i) sum += weight(most < logits.size() ? ranking[i] : int32_t(i));
  // The likeliest tokens come first, because few of them usually reach top_p.
  size_t n = most;
  double kept = sum;
  if (s.top_p < 1)
    for (n = 0, kept = 0; n < most && kept < s.top_p * sum;) kept += weight(ranking[n++]);
  const double target = random.next_double() * kept;
  double reached = 0;
  for (size_t i = 0; i + 1 < n; ++i)
    if ((reached += weight(ranking[i])) > target) return ranking[i];
  return ranking[n - 1];
}

}  // namespace blockgtq
