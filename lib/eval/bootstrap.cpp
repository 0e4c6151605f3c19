#include "eval/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "quant/random.h"

namespace blockgtq {
namespace {

/// The quantile of ascending values, interpolated linearly.
double quantile(const std::vector<double>& sorted, double share) {
  const double at = share * double(sorted.size() - 1);
  const size_t below = size_t(at), above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - double(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

Bootstrap::Bootstrap(size_t n_chunks, int n_resamples, uint64_t seed)
    : n_chunks_(n_chunks), n_resamples_(n_resamples) {
  check(n_resamples > 0, "Bootstrap: no resamples");
  Random random(seed);
  drawn_.resize(n_chunks * n_resamples);
  for (uint32_t& index : drawn_) index = uint32_t(random.next_double() * double(n_chunks));
}

Bootstrap::Interval Bootstrap::mean(const std::vector<ChunkSum>& chunks) const {
  check(chunks.size() == n_chunks_, "Bootstrap: another number of chunks");
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  if (n_chunks_ < 2) return {kNone, kNone};
  std::vector<double> means;
  means.reserve(n_resamples_);
  for (int r = 0; r < n_resamples_; ++r) {
    double sum = 0, count = 0;
    for (size_t c = 0; c < n_chunks_; ++c) {
      const ChunkSum& chunk = chunks[drawn_[size_t(r) * n_chunks_ + c]];
      sum += chunk.sum;
      count += chunk.count;
    }
    if (count > 0) means.push_back(sum / count);
  }
  if (means.empty()) return {kNone, kNone};
  std::sort(means.begin(), means.end());
  return {quantile(means, 0.025), quantile(means, 0.975)};
}

}  // namespace blockgtq
