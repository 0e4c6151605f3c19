#pragma once
#include <cstdint>

#include "kernels/forward/matvec.h"

namespace blockgtq::cuda {

/// Vectors times experts that one product takes: tokens times experts of a token.
inline constexpr int kMaxVisits = 256;

/// Products of a few vectors, each with matrices of the experts that a router chose for it on the device. Of
/// experts that nobody goes to nothing is read, of the others everything once.
struct ExpertMatVec {
  /// Of one expert: rows, cols, n. w (n_experts, rows, cols) and bias (n_experts, rows) are of all. Either x
  /// (n, cols), which may be normed, and gated (n, n_per_token, rows / 2); or x_low (n, n_per_token, cols),
  /// and y (n, rows) += scale times the weighted sum over the token's experts, those of a lower number first.
  MatVec product;
  int n_per_token = 0;
  const int32_t* expert = nullptr;  // (n, n_per_token); one that a token has twice counts once
  const float* weight = nullptr;    // (n, n_per_token), where there is y
  float limit = 0, alpha = 0;       // of Activation::clamped, which is allowed here
};

/// Bytes that vectors to be rounded or normed may take.
int64_t max_expert_vector_bytes();

/// One launch, which may begin while the one before it ends, and reads nothing of it before. Same inputs,
/// same bits; a token's results do not depend on the others'.
void expert_matvec(const ExpertMatVec& job, const Stream& stream);

}  // namespace blockgtq::cuda
