#include "eval/cuda_divergence.h"

#include <vector>

#include "base/error.h"
#include "kernels/forward/logits.h"

namespace blockgtq {

struct CudaExactLogits::State {
  State(int64_t n, int64_t v)
      : n_tokens(n),
        vocab(v),
        logits(size_t(bytes(n, v))),
        sums(size_t(n) * sizeof(cuda::LogitSum)),
        next(size_t(n) * sizeof(int32_t)),
        scores(size_t(n) * sizeof(cuda::RowScore)) {}

  int64_t n_tokens, vocab;
  cuda::Buffer logits, sums, next, scores;  // (T, vocab), (T), (T), (T)
};

CudaExactLogits::CudaExactLogits(int64_t n_tokens, int64_t vocab)
    : state_(std::make_unique<State>(n_tokens, vocab)) {}
CudaExactLogits::~CudaExactLogits() = default;

void CudaExactLogits::set(int64_t first, int64_t n, const float* logits, void* handle) {
  State& s = *state_;
  check(first + n <= s.n_tokens, "CudaExactLogits::set: rows outside the window");
  const cuda::Stream stream(handle);
  float* to = s.logits.as<float>() + first * s.vocab;
  cuda::copy_on_device(to, logits, size_t(bytes(n, s.vocab)), stream);
  cuda::sum_logits(to, n, s.vocab, s.sums.as<cuda::LogitSum>() + first, stream);
}

void CudaExactLogits::compare(int64_t first, int64_t n, const float* logits, const int32_t* next,
                              TokenScore* scores, void* handle) {
  State& s = *state_;
  check(first + n <= s.n_tokens, "CudaExactLogits::compare: rows outside the window");
  const cuda::Stream stream(handle);
  cuda::upload(s.next.as(), next, size_t(n) * sizeof(int32_t), stream);
  cuda::LogitRows rows;
  rows.logits = logits;
  rows.exact = s.logits.as<float>() + first * s.vocab;
  rows.exact_sums = s.sums.as<cuda::LogitSum>() + first;
  rows.next = s.next.as<int32_t>();
  rows.n = n;
  rows.vocab = s.vocab;
  cuda::compare_logits(rows, s.scores.as<cuda::RowScore>(), stream);
  std::vector<cuda::RowScore> found(static_cast<size_t>(n));
  cuda::download_now(found.data(), s.scores.as(), found.size() * sizeof(cuda::RowScore), handle);
  for (const cuda::RowScore& row : found) *scores++ = {row.kl, row.nll, row.exact_nll, row.same_top != 0};
}

}  // namespace blockgtq
