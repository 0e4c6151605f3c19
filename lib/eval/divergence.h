#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace blockgtq {

/// The next-token distribution of one position under a cache, compared with that under the exact cache.
struct TokenScore {
  double kl = 0;          // KL(exact || this), nats
  double nll = 0;         // -log p(next token), nats; NaN where the next token is not known
  double exact_nll = 0;   // the same under the exact cache
  bool same_top = false;  // both have the same likeliest token (the lowest id on ties)
};

/// log(sum(exp(logits))) of one row, logits (vocab), in float64.
double log_sum_exp(const float* logits, int64_t vocab);

/// The lowest id of the largest logit, logits (vocab).
int64_t likeliest(const float* logits, int64_t vocab);

/// scores (n) of the exact cache itself, whose KL is 0. logits (n, vocab); next (n) as in
/// ExactLogits::compare().
void score_exact(int64_t n, int64_t vocab, const float* logits, const int32_t* next, TokenScore* scores);

/// The logits of one window under the exact cache, with which those under other caches are compared.
class ExactLogits {
 public:
  void reset(int64_t n_tokens, int64_t vocab);
  /// Rows [first, first + n): logits (n, vocab).
  void set(int64_t first, int64_t n, const float* logits);
  /// scores (n) of rows [first, first + n) under another cache. next (n): the token that follows, -1 where it
  /// is not known.
  void compare(int64_t first, int64_t n, const float* logits, const int32_t* next, TokenScore* scores) const;

 private:
  int64_t vocab_ = 0;
  std::vector<float> logits_;     // (T, vocab)
  std::vector<double> log_sums_;  // (T)
  std::vector<int64_t> top_;      // (T)
};

/// What a cache does to the model, over all positions. Errors are standard errors of the mean, which take the
/// positions for independent; NaN with fewer than two positions.
struct Quality {
  int64_t n_tokens = 0, n_predicted = 0;  // positions; positions whose next token is known
  double kl_mean = 0, kl_error = 0, kl_median = 0, kl_p99 = 0, kl_max = 0;
  double same_top = 0;  // share of positions
  double perplexity = 0, perplexity_error = 0;
  double log_ratio = 0,
         log_ratio_error = 0;  // log(perplexity / exact perplexity), paired position by position
};
Quality summarize(std::span<const TokenScore> scores);

/// The p-quantile, 0 <= p <= 1, interpolated linearly between neighbouring ranks. NaN without values.
double quantile(std::vector<double> values, double p);

}  // namespace blockgtq
