#include "model/output_layer.h"

#include <algorithm>
#include <vector>

#include "base/stop.h"
#include "model/elementwise.h"
#include "model/matmul.h"
#include "model/nonfinite.h"
#include "model/norm.h"

namespace blockgtq {

void embed(const Checkpoint& model, const Tensor& embedding, std::span<const int32_t> tokens, float* x) {
  constexpr size_t kRows = 256;  // rows resident at a time: the kernel also maps some pages around each
  const int64_t hidden = embedding.shape[1];
  for (int32_t token : tokens) model.prefetch(embedding.rows(token, 1));
  for (size_t t = 0; t < tokens.size(); ++t) {
    embedding.read(tokens[t] * hidden, hidden, x + int64_t(t) * hidden);
    if (t % kRows == kRows - 1 || t + 1 == tokens.size()) model.release(embedding);
  }
  if (const float scale = float(model.config().embedding_multiplier); scale != 1)
    for (int64_t i = 0; i < int64_t(tokens.size()) * hidden; ++i) x[i] *= scale;
  // The error must name the token's row, not the first bad row of a large vocabulary.
  const int64_t n = int64_t(tokens.size()) * hidden, at = first_nonfinite(x, n);
  if (at == n) return;
  const Tensor row = embedding.rows(tokens[size_t(at / hidden)], 1);
  require_finite(model, x, int64_t(tokens.size()), hidden, "embedding", {&row});
}

void finish_logits(const Config& c, float* logits, int64_t n) {
  if (c.logits_multiplier != 1)
    for (int64_t i = 0; i < n; ++i) logits[i] *= float(c.logits_multiplier);
  if (c.logits_softcap > 0) softcap(logits, c.logits_softcap, n);
}

void output_layer(const Checkpoint& model, const OuterWeights& outer, const float* x, int64_t n_tokens,
                  int64_t chunk,
                  const std::function<void(int64_t first, int64_t n, const float* logits)>& on_logits) {
  const Config& c = model.config();
  const int64_t most = std::min({kLogitTokens, chunk, n_tokens});
  std::vector<float> normed(size_t(most * c.hidden)), logits(size_t(most) * size_t(c.vocab));
  for (int64_t start = 0; start < n_tokens; start += chunk) {
    const int64_t end = std::min(n_tokens, start + chunk);
    for (int64_t first = start; first < end; first += most) {
      check_stop();
      const int64_t n = std::min(most, end - first);
      apply_norm(c, outer.final_norm, x + first * c.hidden, n, normed.data());
      linear(model, outer.lm_head, normed.data(), n, logits.data());
      require_finite(model, logits.data(), n, c.vocab, "logits",
                     {&outer.final_norm.weight, &outer.lm_head.weight}, first);
      finish_logits(c, logits.data(), n * c.vocab);
      on_logits(first, n, logits.data());
    }
  }
}

}  // namespace blockgtq
