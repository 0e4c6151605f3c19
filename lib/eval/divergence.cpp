#include "eval/divergence.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/parallel.h"
#include "base/processor.h"

namespace blockgtq {
namespace {

constexpr int64_t kLanes = 8;
constexpr int64_t kRowTile = 8;  // rows of one parallel piece
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// exp(x) for x <= 0 to two units in the last place, in a form that compilers vectorize. Below -700 it is
/// exp(-700), which is negligible against the 1 that every sum here contains.
BLOCKGTQ_INLINED double exp_below_zero(double x) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  constexpr double kLn2High = 6.93145751953125e-1,
                   kLn2Low = 1.42860682030941723212e-6;  // the sum is ln 2, the first product exact
  x = x < -700.0 ? -700.0 : x;
  const double shifted = x * 1.4426950408889634 + kRound;
  const double n = shifted - kRound;
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln(2) / 2
  // Taylor to r^12: the rest is below (ln 2 / 2)^13 / 13! = 2e-16
  double p = 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  // The low bits of `shifted` hold the integer n. Moved to the exponent it multiplies by 2^n.
  return std::bit_cast<double>(std::bit_cast<uint64_t>(p) + (std::bit_cast<uint64_t>(shifted) << 52));
}

float largest(const float* x, int64_t n) {
  std::array<float, 4 * kLanes> lanes;
  lanes.fill(x[0]);
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int64_t l = 0; l < 4 * kLanes; ++l)
      lanes[size_t(l)] = x[i + l] > lanes[size_t(l)] ? x[i + l] : lanes[size_t(l)];
  for (; i < n; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  return *std::max_element(lanes.begin(), lanes.end());
}

/// Adds term(i) over [0, n) in kLanes interleaved chains of fixed order.
template <class Term>
BLOCKGTQ_INLINED double sum_lanes(int64_t n, const Term& term) {
  std::array<double, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t l = 0; l < kLanes; ++l) lanes[size_t(l)] += term(i + l);
  for (; i < n; ++i) lanes[0] += term(i);
  double total = 0;
  for (double lane : lanes) total += lane;
  return total;
}

/// sum(exp(x - most))
BLOCKGTQ_INLINED double sum_exp(const float* x, double most, int64_t n) {
  return sum_lanes(n, [&](int64_t i) { return exp_below_zero(x[i] - most); });
}
BLOCKGTQ_AVX512 double sum_exp_avx512(const float* x, double most, int64_t n) {
  return sum_exp(x, most, n);
}

struct Mean {
  double value = kNan, error = kNan;
};

Mean mean_of(const std::vector<double>& x) {
  if (x.empty()) return {};
  const auto n = double(x.size());
  double sum = 0, squares = 0;
  for (double v : x) sum += v;
  const double mean = sum / n;
  for (double v : x) squares += (v - mean) * (v - mean);
  return {mean, x.size() < 2 ? kNan : std::sqrt(squares / (n - 1) / n)};
}

}  // namespace

double log_sum_exp(const float* logits, int64_t vocab) {
  const double most = largest(logits, vocab);
  return most + std::log(has_avx512() ? sum_exp_avx512(logits, most, vocab) : sum_exp(logits, most, vocab));
}

int64_t likeliest(const float* logits, int64_t vocab) {
  return std::find(logits, logits + vocab, largest(logits, vocab)) - logits;
}

void score_exact(int64_t n, int64_t vocab, const float* logits, const int32_t* next, TokenScore* scores) {
  parallel_for(size_t(n), [&](size_t i) {
    const float* row = logits + int64_t(i) * vocab;
    TokenScore& score = scores[i];
    score.kl = 0;
    score.same_top = true;
    score.nll = score.exact_nll = next[i] < 0 ? kNan : log_sum_exp(row, vocab) - double(row[next[i]]);
  });
}

void ExactLogits::reset(int64_t n_tokens, int64_t vocab) {
  vocab_ = vocab;
  logits_.resize(size_t(n_tokens * vocab));
  log_sums_.resize(size_t(n_tokens));
  top_.resize(size_t(n_tokens));
}

void ExactLogits::set(int64_t first, int64_t n, const float* logits) {
  check(size_t(first + n) <= top_.size(), "ExactLogits::set: rows outside the window");
  parallel_for(size_t(n), [&](size_t i) {
    const float* row = logits + int64_t(i) * vocab_;
    std::copy_n(row, vocab_, logits_.data() + (first + int64_t(i)) * vocab_);
    log_sums_[size_t(first) + i] = log_sum_exp(row, vocab_);
    top_[size_t(first) + i] = likeliest(row, vocab_);
  });
}

void ExactLogits::compare(int64_t first, int64_t n, const float* logits, const int32_t* next,
                          TokenScore* scores) const {
  check(size_t(first + n) <= top_.size(), "ExactLogits::compare: rows outside the window");
  parallel_for(size_t((n + kRowTile - 1) / kRowTile), [&](size_t tile) {
    const int64_t begin = int64_t(tile) * kRowTile;
    for (int64_t i = begin; i < std::min(n, begin + kRowTile); ++i) {
      const float *exact = logits_.data() + (first + i) * vocab_, *other = logits + i * vocab_;
      const double exact_sum = log_sums_[size_t(first + i)], sum = log_sum_exp(other, vocab_);
      // sum p (log p - log q), where p and q have their own normalizers
      const double shift = sum_lanes(vocab_, [&](int64_t j) {
        return exp_below_zero(exact[j] - exact_sum) * (double(exact[j]) - double(other[j]));
      });
      TokenScore& score = scores[i];
      score.kl = shift + (sum - exact_sum);
      score.same_top = likeliest(other, vocab_) == top_[size_t(first + i)];
      score.nll = next[i] < 0 ? kNan : sum - double(other[next[i]]);
      score.exact_nll = next[i] < 0 ? kNan : exact_sum - double(exact[next[i]]);
    }
  });
}

Quality summarize(std::span<const TokenScore> scores) {
  Quality quality;
  std::vector<double> kl, nll, increase;
  int64_t same = 0;
  for (const TokenScore& s : scores) {
    kl.push_back(s.kl);
    same += s.same_top;
    if (std::isnan(s.nll)) continue;
    nll.push_back(s.nll);
    increase.push_back(s.nll - s.exact_nll);
  }
  quality.n_tokens = int64_t(kl.size());
  quality.n_predicted = int64_t(nll.size());
  const Mean kl_mean = mean_of(kl), nll_mean = mean_of(nll), ratio = mean_of(increase);
  quality.kl_mean = kl_mean.value;
  quality.kl_error = kl_mean.error;
  quality.perplexity = std::exp(nll_mean.value);
  quality.perplexity_error = quality.perplexity * nll_mean.error;
  quality.log_ratio = ratio.value;
  quality.log_ratio_error = ratio.error;
  quality.same_top = scores.empty() ? kNan : double(same) / double(scores.size());
  quality.kl_median = quantile(kl, 0.5);
  quality.kl_p99 = quantile(kl, 0.99);
  quality.kl_max = quantile(std::move(kl), 1);
  return quality;
}

double quantile(std::vector<double> values, double p) {
  if (values.empty()) return kNan;
  const double rank = p * double(values.size() - 1);
  const auto low = std::ptrdiff_t(rank);
  std::nth_element(values.begin(), values.begin() + low, values.end());
  const double below = values[size_t(low)];
  if (double(low) == rank) return below;
  const double above = *std::min_element(values.begin() + low + 1, values.end());
  return below + (rank - double(low)) * (above - below);
}

}  // namespace blockgtq
