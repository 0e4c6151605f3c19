#pragma once
#include <cstdint>

#include "kernels/device/device.h"

namespace blockgtq::cuda {

/// x (n) = cap tanh(factor x / cap), or factor x where cap is 0.
void finish_logits(float* x, int64_t n, float factor, float cap, const Stream& stream);

/// What is summed up of one row of logits.
struct LogitSum {
  double log_sum = 0;  // log(sum(exp))
  int32_t top = 0;     // the id of the largest logit, the lowest of equals
};
/// sums (n) of logits (n, vocab)
void sum_logits(const float* logits, int64_t n, int64_t vocab, LogitSum* sums, const Stream& stream);

/// One row compared with the exact one; see TokenScore (eval/divergence.h).
struct RowScore {
  double kl = 0, nll = 0, exact_nll = 0;  // nll and exact_nll are NaN where there is no next token
  int32_t same_top = 0;
};
/// Rows of logits (n, vocab) against exact ones and their sums; next (n): the token that follows, or -1.
struct LogitRows {
  const float *logits = nullptr, *exact = nullptr;
  const LogitSum* exact_sums = nullptr;
  const int32_t* next = nullptr;
  int64_t n = 0, vocab = 0;
};
/// scores (n). Exponentials are float32. The differences of logits before them and all sums are float64.
void compare_logits(const LogitRows& rows, RowScore* scores, const Stream& stream);

}  // namespace blockgtq::cuda
